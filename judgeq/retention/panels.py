"""Where in a document each method looks, in Plotly: one panel a method, one bar a stretch of text.

Names are untrusted. Knows nothing of how scores come about beyond that higher means keep.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from judgeq.errors import InputError
from judgeq.retention.curves import COLORS, GRID
from judgeq.retention.heatmap import GREY, hover_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from judgeq.retention.map import RetentionMap

MOST_BARS = 160
PANEL = 130
"""Height of a panel."""
SPAN = "rgba(217,134,26,.25)"


def attention_share(found: RetentionMap, layers: range | None = None) -> np.ndarray:
    """(D,) float64: how the method's attention is spread over the document's `D` tokens; sums to 1.

    The scores of every layer and KV head count alike, whatever each of them pays to the rest of the prompt.

    Args:
        layers: those that count; None for all.

    Raises:
        InputError: the method scores nothing, some scores are below zero and so cannot be attention, or there are no
            such layers.
    """
    layers = range(found.layers) if layers is None else layers
    if not layers or min(layers) < 0 or max(layers) >= found.layers:
        raise InputError(f"layers is {layers!r}: give a range from 0 to {found.layers}, or None for all")
    inside = found.document_tokens
    if found.scores is None or not len(inside):
        raise InputError(
            f"The method {found.method!r} has no scores here: choose a method that looks, such as judgeq"
        )
    scores = found.scores[list(layers), :, inside.start : inside.stop].astype(np.float64)
    scores = scores[~np.isnan(scores).any(axis=-1)]  # (heads that scored, D)
    if not len(scores) or scores.min() < 0:
        raise InputError(
            f"The scores of {found.method!r} are no attention: choose a method such as judgeq or snapkv"
        )
    each = scores / np.maximum(scores.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    return each.mean(axis=0) / each.mean(axis=0).sum()


def attention_panels(
    maps: Mapping[str, RetentionMap],
    spans: Mapping[str, tuple[int, int]] | None = None,
    layers: range | None = None,
) -> Figure:
    """Draw what the methods look at below one another, on one scale.

    Args:
        maps: by name, all of one prompt.
        spans: by name, characters of the document that are shaded in every panel.
        layers: those whose attention is drawn; None for all.

    Raises:
        InputError: a method without scores, no such layers, or maps of different prompts.
    """
    from plotly.graph_objects import Bar
    from plotly.subplots import make_subplots

    first, *others = maps.values()
    if any(other.text != first.text or other.tokens != first.tokens for other in others):
        raise InputError("The maps are of different prompts: compare methods on one prompt")
    inside = first.document_tokens
    edges = np.linspace(0, len(inside), min(MOST_BARS, len(inside)) + 1).astype(int)
    offsets = first.offsets[inside.start : inside.stop]
    words = [
        hover_text(first.text[offsets[start][0] : offsets[end - 1][1]])
        for start, end in pairwise(edges.tolist())
    ]
    heights = {
        name: np.add.reduceat(attention_share(found, layers), edges[:-1]) for name, found in maps.items()
    }
    figure = make_subplots(
        rows=len(maps), cols=1, shared_xaxes=True, shared_yaxes="all", vertical_spacing=0.32 / max(len(maps), 2),
        subplot_titles=[html.escape(name, quote=False) for name in maps],
    )  # fmt: skip
    figure.for_each_annotation(lambda title: title.update(x=0, xanchor="left"))
    for row, (name, shares) in enumerate(heights.items(), start=1):
        bars = Bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=shares.tolist(),
            width=np.diff(edges).tolist(),
            marker={"color": COLORS[(row - 1) % len(COLORS)], "line": {"width": 0}},
            name=html.escape(name, quote=False),
            text=words,
            textposition="none",
            hovertemplate="“%{text}”: %{y:.1%}<extra></extra>",
        )
        figure.add_trace(bars, row=row, col=1)
    for label, (start, end) in (spans or {}).items():
        held = first.tokens_at(start, end)
        x0, x1 = held.start - inside.start, held.stop - inside.start
        figure.add_vrect(x0=x0 - 2, x1=x1 + 2, fillcolor=SPAN, line_width=0, layer="below", row="all", col=1)
        figure.add_annotation(
            x=x1 + 4,
            y=0.95,
            yref="y domain",
            text=html.escape(label, quote=False),
            showarrow=False,
            xanchor="left",
        )
    _frame(figure, len(maps), len(inside))
    highest = max(float(shares.max()) for shares in heights.values())
    figure.update_yaxes(
        range=[0, 1.1 * highest]
    )  # a shape beside bars leaves Plotly without a range of its own
    return figure


def _frame(figure: Figure, panels: int, tokens: int) -> None:
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 13},
        margin={"l": 60, "r": 16, "t": 40, "b": 52},
        height=92 + PANEL * panels,
        autosize=True,
        showlegend=False,
        bargap=0,
        dragmode=False,  # a finger on the figure scrolls the page
        hoverlabel={"align": "left", "bgcolor": "#1b1d22", "font": {"color": "#f4f1ea", "size": 13}},
    )
    figure.for_each_annotation(lambda title: title.update(font={"size": 14, "color": GREY}))
    figure.update_xaxes(range=[0, tokens], showgrid=False, zeroline=False, nticks=8)
    figure.update_xaxes(title={"text": "position in the document (tokens)", "standoff": 4}, row=panels, col=1)
    figure.update_yaxes(tickformat=".0%", gridcolor=GRID, zeroline=False, nticks=4)
