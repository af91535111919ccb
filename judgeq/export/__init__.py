"""A comparison to take along: a page, a picture, a table, plain values, the lines of Python that repeat it."""

from judgeq.export.comparison import Comparison
from judgeq.export.settings import Settings

__all__ = ["Comparison", "Settings"]
