"""A comparison and every form in which it is taken along.

Nothing is written to the disk: every form is a string, bytes or plain values.
"""

from __future__ import annotations

from judgeq.export import page, picture
from judgeq.export.data import ComparisonData


class Comparison(ComparisonData):
    __doc__ = ComparisonData.__doc__

    def to_html(self) -> str:
        """A page of its own without scripts, which opens without a network and loads nothing."""
        return page.to_html(self)

    def to_png(self) -> bytes:
        """A picture of 1200 x 630 pixels."""
        return picture.to_png(self)
