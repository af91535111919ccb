"""One line a method, in Plotly: each with a dash and a marker of its own.

Names are untrusted. Knows nothing of what the values mean.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from judgeq.retention.heatmap import GREY

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLORS = ("#5b8ecb", "#d9861a", "#3f9c72", "#b673c0", "#c9635a", "#7f8c2b")  # 3 : 1 on white and on #16181d
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "triangle-down")
MOST_MARKERS = 40
"""Points of a line up to which each is marked."""
GRID = "rgba(128,128,128,.25)"


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    across: str,
    up: str,
    hover: str | None = None,
) -> Figure:
    """One line a name.

    Args:
        curves: by name, where the points lie and their values.
        across, up: what the two axes show.
        hover: Plotly template for one point.
    """
    from plotly.graph_objects import Figure, Scatter

    traces = [
        Scatter(
            x=list(places),
            y=list(values),
            name=html.escape(name, quote=False),
            mode="lines+markers" if len(values) <= MOST_MARKERS else "lines",
            line={"color": COLORS[index % len(COLORS)], "dash": DASHES[index % len(DASHES)], "width": 2},
            marker={"symbol": MARKERS[index % len(MARKERS)], "size": 7},
            hovertemplate=hover or "%{x:,}: %{y:,.4~g}",
        )
        for index, (name, (places, values)) in enumerate(curves.items())
    ]
    figure = Figure(traces)
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13},
        margin={"l": 52, "r": 16, "t": 34, "b": 96},
        height=300,
        autosize=True,
        dragmode=False,  # a finger on the figure scrolls the page
        hovermode="x unified",
        showlegend=True,
        legend={"orientation": "h", "x": 0, "y": -0.28, "yanchor": "top"},
        modebar={
            "remove": ["autoScale2d", "zoomIn2d", "zoomOut2d", "select2d", "lasso2d"],
            "bgcolor": "rgba(0,0,0,0)",
            "color": GREY,
            "activecolor": GREY,
        },
        hoverlabel={"align": "left", "bgcolor": "#1b1d22", "font": {"color": "#f4f1ea", "size": 13}},
    )
    figure.update_xaxes(title={"text": across, "standoff": 4}, showgrid=False, zeroline=False, nticks=10)
    figure.update_yaxes(
        title={"text": up, "standoff": 4}, rangemode="tozero", gridcolor=GRID, zeroline=False, nticks=5
    )
    return figure


def layer_lines(values: Mapping[str, np.ndarray], up: str = "stays") -> Figure:
    """Shares over layers.

    Args:
        values: by name, (L,) each.
        up: what they are shares of.
    """
    curves = {name: (range(len(shares)), shares.tolist()) for name, shares in values.items()}
    figure = lines(curves, "layer", up, "layer %{x}: %{y:.0%}")
    figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%")
    return figure
