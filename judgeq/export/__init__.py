"""A comparison exported as a page, a picture, a table, plain values, or the Python code that repeats it."""

from judgeq.export.comparison import Comparison
from judgeq.export.settings import Settings

__all__ = ["Comparison", "Settings"]
