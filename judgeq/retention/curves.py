"""One line a method over the layers, in Plotly: each with a dash and a marker of its own.

Names are untrusted. Knows nothing of what the values mean beyond that they are shares.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from judgeq.retention.heatmap import GREY

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COLORS = ("#5b8ecb", "#d9861a", "#3f9c72", "#b673c0", "#c9635a", "#7f8c2b")  # 3 : 1 on white and on #16181d
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "triangle-down")


def layer_lines(values: Mapping[str, np.ndarray]) -> Figure:
    """Shares over layers.

    Args:
        values: by name, (L,) each.
    """
    from plotly.graph_objects import Figure, Scatter

    traces = [
        Scatter(
            x=list(range(len(shares))),
            y=shares.tolist(),
            name=html.escape(name, quote=False),
            mode="lines+markers",
            line={"color": COLORS[index % len(COLORS)], "dash": DASHES[index % len(DASHES)], "width": 2},
            marker={"symbol": MARKERS[index % len(MARKERS)], "size": 7},
            hovertemplate="layer %{x}: %{y:.0%}",
        )
        for index, (name, shares) in enumerate(values.items())
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
        legend={"orientation": "h", "x": 0, "y": -0.28, "yanchor": "top"},
        modebar={
            "remove": ["autoScale2d", "zoomIn2d", "zoomOut2d", "select2d", "lasso2d"],
            "bgcolor": "rgba(0,0,0,0)",
            "color": GREY,
            "activecolor": GREY,
        },
        hoverlabel={"align": "left", "bgcolor": "#1b1d22", "font": {"color": "#f4f1ea", "size": 13}},
    )
    figure.update_xaxes(title={"text": "layer", "standoff": 4}, showgrid=False, zeroline=False, nticks=10)
    figure.update_yaxes(
        title={"text": "stays", "standoff": 4},
        range=[-0.04, 1.04],
        tickformat=".0%",
        gridcolor="rgba(128,128,128,.25)",
        zeroline=False,
        nticks=5,
    )
    return figure
