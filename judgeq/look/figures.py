"""One Plotly template for every figure, for light and dark pages and for phones. Plotly is imported when it is used.

Names are untrusted: Plotly reads a subset of HTML, `hover_text` is what makes a text safe.
"""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

from judgeq.look.format import one_line
from judgeq.look.palette import DASHES, FONTS, GREY, GRID, MARKERS, SERIES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HOVER_CHARACTERS = 48
LEGEND_BELOW = {"orientation": "h", "x": 0, "y": -0.28, "yanchor": "top"}

ROW_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
"""Percents of rows that an axis names."""
PERCENTS = (0, 25, 50, 75, 100)

_CLEAR = "rgba(0,0,0,0)"
_TEMPLATE: dict[str, Any] = {
    "layout": {
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "colorway": list(SERIES),
        "font": {"family": FONTS["sans"], "color": GREY, "size": 13},
        "margin": {"l": 52, "r": 16, "t": 40, "b": 52},
        "dragmode": False,  # a finger on the figure scrolls the page
        "hoverlabel": {"align": "left", "bgcolor": "#1b1d22", "font": {"color": "#f4f1ea", "size": 13}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        "modebar": {
            "remove": ["autoScale2d", "zoomIn2d", "zoomOut2d", "select2d", "lasso2d"],
            "bgcolor": _CLEAR,
            "color": GREY,
            "activecolor": GREY,
        },
        "xaxis": {"showgrid": False, "zeroline": False, "zerolinecolor": GREY, "title": {"standoff": 6}},
        "yaxis": {"gridcolor": GRID, "zeroline": False, "zerolinecolor": GREY, "title": {"standoff": 4}},
    }
}


def styled(figure: Figure, **layout: Any) -> Figure:
    """The figure with the template, and what else its layout needs, such as `height`."""
    figure.layout.template = _TEMPLATE  # `update_layout` would add it to Plotly's own
    return figure.update_layout(**layout)


def over_rows(figure: Figure, least: float, height: int) -> Figure:
    """The figure styled, with percents over the percents of rows that are kept, on a logarithmic axis from `least`."""
    top = {"y": 1, "yref": "container", "yanchor": "top"}
    styled(figure, margin={"l": 60, "r": 20, "t": 64}, height=height, legend=top)
    figure.update_xaxes(
        type="log",
        range=[math.log10(least) - 0.1, 2.04],
        tickvals=list(ROW_TICKS),
        ticktext=[f"{tick:g}" for tick in ROW_TICKS],
        tickangle=0,
        showgrid=True,
        gridcolor=GRID,
    )
    ticks = [f"{tick} %" for tick in PERCENTS]
    return figure.update_yaxes(range=[-4, 104], tickvals=PERCENTS, ticktext=ticks)


def series_style(index: int) -> dict[str, Any]:
    """`line` and `marker` of the `index`-th series: distinguished by colour, dash and marker."""
    color = SERIES[index % len(SERIES)]
    return {
        "line": {"color": color, "dash": DASHES[index % len(DASHES)], "width": 2},
        "marker": {"symbol": MARKERS[index % len(MARKERS)], "size": 7},
    }


def hover_text(text: str) -> str:
    """One short line that Plotly shows as it is written; the middle of a long text is left out."""
    line = one_line(text)
    if len(line) > HOVER_CHARACTERS:
        half = HOVER_CHARACTERS // 2
        line = f"{line[:half].rstrip()} … {line[-half:].lstrip()}"
    return html.escape(line, quote=False)
