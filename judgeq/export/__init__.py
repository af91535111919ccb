"""What a person takes away from a comparison: a page, a picture, a table, plain values, the lines that repeat it."""

from judgeq.export.record import Keepsake, Settings

__all__ = ["Keepsake", "Settings"]
