"""Figures of retention maps in Plotly, for light and dark pages and for phones, and the heatmap without scripts.

Every text is untrusted and escaped: Plotly reads a subset of HTML.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from judgeq.errors import InputError
from judgeq.look.figures import LEGEND_BELOW, hover_text, series_style, styled
from judgeq.look.format import one_line
from judgeq.look.pages import render
from judgeq.look.palette import GREY, SEQUENTIAL, SERIES
from judgeq.retention.arrays import KeptRows
from judgeq.retention.html import MAX_BINS
from judgeq.retention.text import positions, subject

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

Metric = Literal["kept", "score"]

SVG_CHARACTERS = 60
"""Characters of the prompt that a column of the heatmap without scripts shows."""
MOST_MARKERS = 40
"""Points of a line up to which each is marked."""
MOST_BARS = 160
SHADE = "rgba(217,134,26,.25)"
"""Colour of a span in the panels."""


@dataclass(frozen=True)
class Scale:
    """How a heatmap's values become colours and words.

    Attributes:
        title: what is shown.
        ticks: values with a label; the first and the last are the ends of the scale.
        labels: one for each tick.
        hover: Plotly template for one value.
        bend: above 1 spreads the low end of the scale.
    """

    title: str
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    hover: str
    bend: float = 1.0


SCALES = {
    "kept": Scale(
        "rows kept by the layer’s heads",
        (0, 0.1, 0.25, 0.5, 0.75, 1),
        ("0 %", "10", "25", "50", "75", "100 %"),
        "kept: %{z:.1%}",
        bend=2,
    ),
    "score": Scale(
        "best score over the layer’s mean",
        (-2, -1, 0, 1, 2),
        ("1/100", "1/10", "1", "10", "100 ×"),
        "best score: 10<sup>%{z:.1f}</sup> × mean",
    ),
}


def heatmap(found: KeptRows, metric: Metric) -> Figure:
    """See `RetentionMap.to_figure`."""
    from plotly.colors import sample_colorscale
    from plotly.graph_objects import Heatmap

    if metric not in SCALES:
        raise InputError(f"metric is {metric!r}: choose one of {', '.join(SCALES)}")
    bins, scale = min(MAX_BINS, found.tokens), SCALES[metric]
    edges = found.bin_edges(bins).tolist()
    values = found.layer_profile(bins) if metric == "kept" else found.score_profile(bins)
    steps = np.linspace(0, 1, 17).tolist()
    columns = [
        f"{positions(first, last)}<br>“{hover_text(found.text_of(first, last))}”" for first, last in pairwise(edges)
    ]
    trace = Heatmap(
        z=values.round(4).tolist(),
        x=edges,
        y=list(range(found.layers)),
        text=[columns] * found.layers,
        hovertemplate=f"<b>layer %{{y}}</b>, %{{text}}<br>{scale.hover}<extra></extra>",
        hoverongaps=False,
        colorscale=[
            [step**scale.bend, color] for step, color in zip(steps, sample_colorscale(SEQUENTIAL, steps), strict=True)
        ],
        zmin=scale.ticks[0],
        zmax=scale.ticks[-1],
        colorbar=_bar(scale.title) | {"tickvals": scale.ticks, "ticktext": scale.labels},
    )
    figure = _layers_figure(trace, found.layers)
    figure.update_xaxes(title_text="position in the prompt (tokens)", range=[0, edges[-1]], nticks=6)
    inside = found.document_tokens
    for position in (inside.start, inside.stop):  # white with dark dots: seen on every colour of the scale
        for color, width, dash in (("#ffffff", 3.5, "solid"), ("#111111", 1.5, "dot")):
            line = {"color": color, "width": width, "dash": dash}
            figure.add_shape(type="line", x0=position, x1=position, y0=0, y1=1.02, yref="paper", line=line)
    figure.add_annotation(
        x=(inside.start + inside.stop) / 2,
        y=1,
        yref="paper",
        yanchor="bottom",
        text="← document →",
        showarrow=False,
    )
    return figure


def head_heatmap(found: KeptRows) -> Figure:
    """See `RetentionMap.to_head_figure`."""
    from plotly.graph_objects import Heatmap

    rows, heads = found.kept_rows, found.kv_heads
    trace = Heatmap(
        z=rows.tolist(),
        x=list(range(heads)),
        y=list(range(found.layers)),
        xgap=2,
        ygap=1,
        hovertemplate=f"<b>layer %{{y}}, KV head %{{x}}</b><br>%{{z:,}} of {found.tokens:,} rows<extra></extra>",
        colorscale=SEQUENTIAL,
        zmin=0,
        zmax=max(int(rows.max()), 1),
        colorbar=_bar("rows that the head keeps"),
    )
    figure = _layers_figure(trace, found.layers)
    figure.update_xaxes(title_text="KV head", range=[-0.5, heads - 0.5], dtick=max(1, heads // 16))
    return figure


def lines(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    across: str,
    up: str,
    hover: str | None = None,
) -> Figure:
    """One line a name, each with a dash and a marker of its own.

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
            hovertemplate=hover or "%{x:,}: %{y:,.4~g}",
            **series_style(index),
        )
        for index, (name, (places, values)) in enumerate(curves.items())
    ]
    figure = styled(Figure(traces), height=300, hovermode="x unified", showlegend=True, legend=LEGEND_BELOW)
    figure.update_layout(margin={"t": 34, "b": 96})
    figure.update_xaxes(title_text=across, nticks=10)
    figure.update_yaxes(title_text=up, rangemode="tozero", nticks=5)
    return figure


def layer_lines(values: Mapping[str, np.ndarray], up: str = "kept") -> Figure:
    """Shares over layers.

    Args:
        values: by name, (L,) each.
        up: what they are shares of.
    """
    curves = {name: (range(len(shares)), shares.tolist()) for name, shares in values.items()}
    figure = lines(curves, "layer", up, "layer %{x}: %{y:.0%}")
    figure.update_yaxes(range=[-0.04, 1.04], tickformat=".0%")
    return figure


def attention_share(found: KeptRows, layers: range | None = None) -> np.ndarray:
    """(D,) float64: how the method's attention is spread over the document's `D` tokens; sums to 1.

    The scores of every layer and KV head count equally, whatever attention each pays to the rest of the prompt.

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
        raise InputError(f"The method {found.method!r} has no scores here: choose a method with scores, such as judgeq")
    scores = found.scores[list(layers), :, inside.start : inside.stop].astype(np.float64)
    scores = scores[~np.isnan(scores).any(axis=-1)]  # (heads that scored, D)
    if not len(scores) or scores.min() < 0:
        raise InputError(f"The scores of {found.method!r} are not attention: choose a method such as judgeq or snapkv")
    each = scores / np.maximum(scores.sum(axis=-1, keepdims=True), np.finfo(float).tiny)
    return each.mean(axis=0) / each.mean(axis=0).sum()


def attention_panels(
    maps: Mapping[str, KeptRows],
    spans: Mapping[str, tuple[int, int]] | None = None,
    layers: range | None = None,
) -> Figure:
    """Where in a document each method attends: one panel a method, one bar a stretch of text, on one scale.

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
    words = [
        hover_text(first.text_of(inside.start + start, inside.start + end)) for start, end in pairwise(edges.tolist())
    ]
    heights = {name: np.add.reduceat(attention_share(found, layers), edges[:-1]) for name, found in maps.items()}
    figure = make_subplots(
        rows=len(maps), cols=1, shared_xaxes=True, shared_yaxes="all", vertical_spacing=0.32 / max(len(maps), 2),
        subplot_titles=[html.escape(name, quote=False) for name in maps],
    )  # fmt: skip
    for row, (name, shares) in enumerate(heights.items(), start=1):
        bars = Bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=shares.tolist(),
            width=np.diff(edges).tolist(),
            marker={"color": SERIES[(row - 1) % len(SERIES)], "line": {"width": 0}},
            name=html.escape(name, quote=False),
            text=words,
            textposition="none",
            hovertemplate="“%{text}”: %{y:.1%}<extra></extra>",
        )
        figure.add_trace(bars, row=row, col=1)
    figure.for_each_annotation(lambda title: title.update(x=0, xanchor="left"))
    for label, (start, end) in (spans or {}).items():
        tokens = first.tokens_at(start, end)
        x0, x1 = tokens.start - inside.start, tokens.stop - inside.start
        figure.add_vrect(x0=x0 - 2, x1=x1 + 2, fillcolor=SHADE, line_width=0, layer="below", row="all", col=1)
        figure.add_annotation(
            x=x1 + 4,
            y=0.95,
            yref="y domain",
            text=html.escape(label, quote=False),
            showarrow=False,
            xanchor="left",
        )
    styled(figure, height=92 + 130 * len(maps), showlegend=False, bargap=0, margin_l=60)
    figure.update_annotations(font={"size": 14, "color": GREY})
    figure.update_xaxes(range=[0, len(inside)], nticks=8)
    figure.update_xaxes(title_text="position in the document (tokens)", row=len(maps), col=1)
    highest = max(float(shares.max()) for shares in heights.values())
    # with a shape next to bars, Plotly does not choose a range
    figure.update_yaxes(range=[0, 1.1 * highest], tickformat=".0%", nticks=4)
    return figure


def notebook_heatmap(found: KeptRows) -> Figure:
    """The heatmap as Plotly draws it, and as plain HTML for notebooks and pages made of them where it does not run."""
    from plotly.graph_objects import Figure

    class NotebookFigure(Figure):
        _ipython_display_ = None  # a renderer's choice, which leaves the page of a notebook empty

        def _repr_mimebundle_(self, *_: object, **__: object) -> dict[str, object]:
            drawn = json.loads(self.to_json())
            return {"application/vnd.plotly.v1+json": drawn, "text/html": still_figure(found)}

    return NotebookFigure(heatmap(found, "kept"))


def still_figure(found: KeptRows) -> str:
    """The heatmap with its axes and scale, as HTML that needs no style sheet."""
    label = f"Share of each layer’s heads that keep a stretch of the prompt: {subject(found)}"
    return render("still.html.j2", found=found, heat=heat_values(found, label), ramp=ramp_png())


def heat_values(found: KeptRows, label: str) -> dict[str, Any]:
    """What `heat.svg.j2` draws: layers from top to bottom, the prompt from left to right.

    A column's text shows under the pointer. The drawing stretches to any size.
    """
    bins = min(MAX_BINS, found.tokens)
    columns = []
    for first, last in pairwise(found.bin_edges(bins).tolist()):
        line = one_line(found.text_of(first, last))
        cut = "…" if len(line) > SVG_CHARACTERS else ""
        columns.append(f"{positions(first, last)}: {line[:SVG_CHARACTERS]}{cut}")
    inside = found.document_tokens
    return {
        "label": label,
        "layers": found.layers,
        "columns": columns,
        "borders": [f"{edge * bins / found.tokens:.2f}" for edge in (inside.start, inside.stop)],
        "picture": _data_uri(colours(found.layer_profile(bins))),
    }


def ramp_png() -> str:
    """The scale from 0 to all heads, as a data URI."""
    return _data_uri(colours(np.linspace(0, 1, 128))[None])


def colours(shares: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 for shares in [0, 1]: the scale of the retention map's own heatmap, its low end spread."""
    return _scale()[np.rint(np.sqrt(np.clip(shares, 0, 1)) * 255).astype(int)]


@cache
def _scale() -> np.ndarray:
    """(256, 3) uint8."""
    from plotly.colors import sample_colorscale, unlabel_rgb

    sampled = sample_colorscale(SEQUENTIAL, np.linspace(0, 1, 256).tolist())
    return np.rint([unlabel_rgb(color) for color in sampled]).astype(np.uint8)


def _data_uri(pixels: np.ndarray) -> str:
    """(H, W, 3) uint8 as a PNG file."""
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(target.getvalue()).decode()


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


def _layers_figure(trace: Any, layers: int) -> Figure:
    """A heatmap with layers from top to bottom."""
    from plotly.graph_objects import Figure

    margin = {"l": 48, "r": 16, "t": 54, "b": 124}
    figure = styled(Figure(trace), margin=margin, height=min(620, 230 + 11 * layers))
    figure.update_yaxes(title_text="layer", range=[layers - 0.5, -0.5], showgrid=False, nticks=8)
    return figure
