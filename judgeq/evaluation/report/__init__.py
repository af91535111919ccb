"""Result files as one page and as Markdown tables. Pure functions from data to text; knows nothing of models."""

from judgeq.evaluation.report.blocks import blocks_of
from judgeq.evaluation.report.comparable import differences, incomparable, precision_of
from judgeq.evaluation.report.figures import draw_layers, draw_needles, draw_scores
from judgeq.evaluation.report.read import (
    ResultFile,
    SpeedFile,
    read_file,
    read_results,
    results_from,
    speed_from,
)
from judgeq.evaluation.report.render import to_html, to_markdown

__all__ = [
    "ResultFile",
    "SpeedFile",
    "blocks_of",
    "differences",
    "draw_layers",
    "draw_needles",
    "draw_scores",
    "incomparable",
    "precision_of",
    "read_file",
    "read_results",
    "results_from",
    "speed_from",
    "to_html",
    "to_markdown",
]
