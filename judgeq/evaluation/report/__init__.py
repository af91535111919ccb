"""Result files as one page and as Markdown tables. Pure functions from data to text; knows nothing of models."""

from judgeq.evaluation.report.blocks import blocks_of
from judgeq.evaluation.report.drawing import draw_layers, draw_needles, draw_scores
from judgeq.evaluation.report.markdown import to_markdown
from judgeq.evaluation.report.page import to_html
from judgeq.evaluation.report.read import ResultFile, read_json, read_results, results_from
from judgeq.evaluation.report.speed import SpeedFile, is_speed, speed_from

__all__ = [
    "ResultFile",
    "SpeedFile",
    "blocks_of",
    "draw_layers",
    "draw_needles",
    "draw_scores",
    "is_speed",
    "read_json",
    "read_results",
    "results_from",
    "speed_from",
    "to_html",
    "to_markdown",
]
