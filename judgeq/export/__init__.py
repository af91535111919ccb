"""A comparison exported as a page, a picture, a table, plain values, or the Python code that repeats it."""

from judgeq.export.comparison import Comparison, Settings

__all__ = ["Comparison", "Settings"]
