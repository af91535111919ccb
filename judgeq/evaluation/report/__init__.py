"""Result files as one page and as Markdown tables. Pure functions from data to text; knows nothing of models."""

from judgeq.evaluation.report.markdown import to_markdown
from judgeq.evaluation.report.page import to_html
from judgeq.evaluation.report.read import ResultFile, read_results

__all__ = ["ResultFile", "read_results", "to_html", "to_markdown"]
