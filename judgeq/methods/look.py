"""How methods are drawn, the same everywhere: in the demo, in reports and in notebooks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """How one method is drawn; dash and marker identify it without colour.

    Attributes:
        color: `#rrggbb`, with a contrast of at least 3 on light and on dark paper.
        dash: a list of lengths, as Plotly and SVG both read it; `"solid"` for none.
        symbol: Plotly's name of the marker.
    """

    color: str
    dash: str
    symbol: str
