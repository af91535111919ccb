"""A layer x position heatmap in Plotly, for light and dark pages and for phones.

Every text that comes in is untrusted. Knows nothing of what the values mean.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from judgeq.retention.rendering import visible

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

GREY = "#767676"  # readable on white and, where nobody overrides it, on dark pages
HOVER_CHARACTERS = 48


@dataclass(frozen=True)
class ColorBar:
    """How values become colours and words.

    Attributes:
        title: what is shown.
        ticks: values with a label; the first and the last are the ends of the scale.
        labels: one for each tick.
        hover: Plotly template for one value, such as `"%{z:.1%} kept"`.
        bend: above 1 spreads the low end of the scale.
    """

    title: str
    ticks: Sequence[float]
    labels: Sequence[str]
    hover: str
    bend: float = 1.0


def heatmap(
    values: np.ndarray, edges: np.ndarray, words: Sequence[str], document: tuple[int, int], bar: ColorBar
) -> Figure:
    """Draw it.

    Args:
        values: (L, bins); NaN leaves a gap.
        edges: (bins + 1,) token positions.
        words: text of each bin.
        document: first token of the document, and one past its last.
        bar: colours and words.
    """
    from plotly.colors import sample_colorscale
    from plotly.graph_objects import Figure, Heatmap

    steps = np.linspace(0, 1, 17)
    colors = sample_colorscale("Cividis", steps.tolist())
    column = [
        f"{_positions(first, last)}<br>“{hover_text(piece)}”"
        for (first, last), piece in zip(pairwise(edges.tolist()), words, strict=True)
    ]
    layers = values.shape[0]
    trace = Heatmap(
        z=values.round(4).tolist(),
        x=edges.tolist(),
        y=list(range(layers)),
        text=[column] * layers,
        hovertemplate=f"<b>layer %{{y}}</b>, %{{text}}<br>{bar.hover}<extra></extra>",
        hoverongaps=False,
        colorscale=[[step**bar.bend, color] for step, color in zip(steps.tolist(), colors, strict=True)],
        zmin=bar.ticks[0],
        zmax=bar.ticks[-1],
        colorbar=_bar(bar.title) | {"tickvals": list(bar.ticks), "ticktext": list(bar.labels)},
    )
    figure = Figure(trace)
    _frame(figure, layers, int(edges[-1]))
    _border(figure, document)
    return figure


def head_heatmap(rows: np.ndarray, tokens: int) -> Figure:
    """Rows that each head keeps, layer x KV head.

    Args:
        rows: (L, H_kv) whole numbers.
        tokens: `T`, what a head could keep at most.
    """
    from plotly.graph_objects import Figure, Heatmap

    layers, heads = rows.shape
    trace = Heatmap(
        z=rows.tolist(),
        x=list(range(heads)),
        y=list(range(layers)),
        xgap=2,
        ygap=1,
        hovertemplate=f"<b>layer %{{y}}, KV head %{{x}}</b><br>%{{z:,}} of {tokens:,} rows<extra></extra>",
        colorscale="Cividis",
        zmin=0,
        zmax=max(int(rows.max()), 1),
        colorbar=_bar("rows that the head keeps"),
    )
    figure = Figure(trace)
    _frame(figure, layers, heads)
    figure.update_xaxes(
        title={"text": "KV head", "standoff": 6}, range=[-0.5, heads - 0.5], dtick=max(1, heads // 16)
    )
    return figure


def hover_text(piece: str) -> str:
    """One short line that Plotly, which reads a subset of HTML, shows as it is written."""
    line = " ".join(visible(piece).split())
    if len(line) > HOVER_CHARACTERS:
        half = HOVER_CHARACTERS // 2
        line = f"{line[:half].rstrip()} … {line[-half:].lstrip()}"
    return html.escape(line, quote=False)


def _positions(first: int, last: int) -> str:
    return f"token {first:,}" if last - first == 1 else f"tokens {first:,} to {last - 1:,}"


def _bar(title: str) -> dict[str, Any]:
    """A colour bar below the figure."""
    return {
        "title": {"text": f"{title}<br>\u200b", "side": "top"},  # the empty line keeps it off the bar
        "orientation": "h",
        "thickness": 12,
        "len": 1,
        "outlinewidth": 0,
        "x": 0.5,
        "xanchor": "center",
        "yref": "container",
        "y": 0.01,
        "yanchor": "bottom",
    }


def _frame(figure: Figure, layers: int, tokens: int) -> None:
    """Axes, margins and size."""
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13},
        margin={"l": 48, "r": 16, "t": 54, "b": 124},
        height=min(620, 230 + 11 * layers),
        autosize=True,
        dragmode=False,  # a finger on the figure scrolls the page
        modebar={
            "remove": ["autoScale2d", "zoomIn2d", "zoomOut2d"],
            "bgcolor": "rgba(0,0,0,0)",
            "color": GREY,
            "activecolor": GREY,
        },
        hoverlabel={"align": "left", "bgcolor": "#1b1d22", "font": {"color": "#f4f1ea", "size": 13}},
    )
    figure.update_xaxes(
        title={"text": "position in the prompt (tokens)", "standoff": 6},
        range=[0, tokens],
        showgrid=False,
        zeroline=False,
        nticks=6,
    )
    figure.update_yaxes(
        title={"text": "layer", "standoff": 4},
        range=[layers - 0.5, -0.5],
        showgrid=False,
        zeroline=False,
        nticks=8,
    )


def _border(figure: Figure, document: tuple[int, int]) -> None:
    """Where the document begins and ends: white lines with dark dots, seen on every colour of the scale."""
    for position in document:
        for color, width, dash in (("#ffffff", 3.5, "solid"), ("#111111", 1.5, "dot")):
            figure.add_shape(
                type="line",
                x0=position,
                x1=position,
                y0=0,
                y1=1.02,
                yref="paper",
                line={"color": color, "width": width, "dash": dash},
            )
    figure.add_annotation(
        x=sum(document) / 2, y=1, yref="paper", yanchor="bottom", text="← document →", showarrow=False
    )
