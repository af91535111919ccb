"""How a retention map is put to people: sentences with its numbers, a legend, marked text, a heatmap.

Turns a `RetentionMap` into what `rendering` and `heatmap` draw; holds the words, computes no retention.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np

from judgeq.console import say
from judgeq.errors import InputError
from judgeq.retention.explanation import HINT, reading_json
from judgeq.retention.heatmap import ColorBar, head_heatmap, heatmap
from judgeq.retention.rendering import (
    BOUNDS,
    LEVEL_CLASSES,
    LEVELS,
    LegendEntry,
    Reading,
    document_html,
    level_of,
    marked_html,
    marked_text,
    percent,
)
from judgeq.retention.still import heat_figure
from judgeq.retention.units import Granularity, is_word

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from judgeq.retention.map import RetentionMap

Metric = Literal["kept", "score"]

MAX_BINS = 200
TITLES = {
    "full": "The full cache",
    "judgeq": "Judge Q",
    "judgeq+draft": "Judge Q with a draft",
    "snapkv": "SnapKV",
    "streamingllm": "StreamingLLM",
    "pyramidkv": "PyramidKV",
    "h2o": "H2O",
    "laq": "Lookahead Q-Cache",
    "keynorm": "The key norm",
    "random": "Random choice",
    "oracle": "The oracle",
}
"""How registered methods are called in sentences; others go by their own name."""

_BARS = {
    "kept": ColorBar(
        title="rows kept by the layer’s heads",
        ticks=(0, 0.1, 0.25, 0.5, 0.75, 1),
        labels=("0 %", "10", "25", "50", "75", "100 %"),
        hover="kept: %{z:.1%}",
        bend=2,
    ),
    "score": ColorBar(
        title="best score over the layer’s mean",
        ticks=(-2, -1, 0, 1, 2),
        labels=("1/100", "1/10", "1", "10", "100 ×"),
        hover="best score: 10<sup>%{z:.1f}</sup> × mean",
    ),
}


def title(found: RetentionMap) -> str:
    """How a map's method is called."""
    return TITLES.get(found.method, found.method)


def sentences(found: RetentionMap, layer: int | None = None, head: int | None = None) -> list[str]:
    """What the map says, the plainest sentence first; `layer` and `head` as in `RetentionMap.share_kept`."""
    chosen = found.rows_of(layer, head)
    counts = [len(rows) for rows in chosen]
    least, most, tokens, mean = min(counts), max(counts), found.tokens, sum(counts) / len(counts)
    heads = "one head" if len(chosen) == 1 else f"each of {len(chosen):,} heads"
    heads += "" if layer is None else f" of layer {layer}"
    heads += "" if head is None else f" (KV head {head})"
    if least == tokens:
        return [
            "Every word stays in the model’s memory while it answers.",
            f"{title(found)} keeps all {tokens:,} rows in {heads}.",
        ]
    spans, shares = found.units("word", layer, head)
    is_kept = shares[words_among(found, spans)] > 0
    kept_words = percent(float(is_kept.mean()) if len(is_kept) else 0.0)
    inside = found.document_tokens
    in_document = found.share_kept(layer, head)[inside.start : inside.stop].sum()
    rows = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    several = (
        f"The model remembers with {len(chosen):,} heads, each on its own: the stronger the mark, the more of them "
        "still hold the word."
    )
    unseen = "" if found.query_aware else " Rows were chosen before the question was known: query-agnostic."
    return [
        "Marked words stay in the model’s memory while it answers; plain grey words are gone.",
        *([several] if len(chosen) > 1 else []),
        f"{title(found)} keeps {rows} of {tokens:,} rows in {heads}: {percent(mean / tokens)}. {kept_words} of the "
        f"document’s words are kept by {'it' if len(chosen) == 1 else 'at least one head'}.",
        f"Of a head’s {mean:,.0f} rows, {in_document:,.0f} hold the document on average; the rest hold the question "
        f"and the chat template.{unseen}",
    ]


def to_html(
    found: RetentionMap, granularity: Granularity, layer: int | None, head: int | None, reading: bool
) -> str:
    """See `RetentionMap.to_html`."""
    spans, shares = found.units(granularity, layer, head)
    levels = level_of(shares)
    whole = granularity in ("token", "word")
    kept = "that are kept by" if whole else "whose tokens are kept, on average, by"
    heads = len(found.rows_of(layer, head))
    return document_html(
        sentences(found, layer, head),
        f"Share of the document’s {granularity}s {kept} …",
        _legend(
            levels[words_among(found, spans)] if granularity == "word" else levels, heads if whole else None
        ),
        marked_html(found.document_text, spans, levels),
        "Document, marked by how many heads keep it",
        figures([found], granularity, layer, head) if reading else None,
    )


def figures(
    maps: Sequence[RetentionMap], granularity: Granularity, layer: int | None, head: int | None
) -> Reading:
    """What `document_html` takes for a page with a script."""
    edges = maps[0].bin_edges(_bins(maps[0]))
    titled = [(title(found), found) for found in maps]
    return Reading(HINT, reading_json(titled, granularity, layer, head, edges), len(maps))


def to_figure(found: RetentionMap, metric: Metric) -> Figure:
    """See `RetentionMap.to_figure`."""
    if metric not in _BARS:
        raise InputError(f"metric is {metric!r}: choose one of {', '.join(_BARS)}")
    bins = _bins(found)
    edges = found.bin_edges(bins)
    values = found.layer_profile(bins) if metric == "kept" else _score_profile(found, edges)
    words = [_text_of(found, first, last) for first, last in pairwise(edges.tolist())]
    inside = found.document_tokens
    return heatmap(values, edges, words, (inside.start, inside.stop), _BARS[metric])


def to_head_figure(found: RetentionMap) -> Figure:
    """See `RetentionMap.to_head_figure`."""
    return head_heatmap(found.kept_rows, found.tokens)


def show(found: RetentionMap, layer: int | None) -> None:
    """See `RetentionMap.show`."""
    if _in_notebook():
        from IPython.display import HTML, display

        display(HTML(found.to_html(layer)))
        if find_spec("plotly"):
            display(_in_notebooks(found))
        return
    ansi = sys.stdout is not None and sys.stdout.isatty()
    spans, shares = found.units("word", layer)
    text = marked_text(found.document_text, spans, level_of(shares), ansi=ansi)
    key = [] if ansi else ["[Brackets]: kept by more than a quarter of the heads."]
    say("\n".join([*sentences(found, layer)[-2:], *key, "", text, ""]), sys.stdout)


def _in_notebooks(found: RetentionMap) -> Figure:
    """The heatmap as Plotly draws it, and as plain HTML for notebooks and pages made of them where it does not run."""
    from plotly.graph_objects import Figure

    class Shown(Figure):
        _ipython_display_ = None  # a renderer's choice, which leaves the page of a notebook empty

        def _repr_mimebundle_(self, *_: object, **__: object) -> dict[str, object]:
            label = f"Share of each layer’s heads that keep a stretch of the prompt: {title(found)}"
            drawn = json.loads(self.to_json())
            return {"application/vnd.plotly.v1+json": drawn, "text/html": heat_figure(found, label)}

    return Shown(found.to_figure())


def _legend(levels: np.ndarray, heads: int | None) -> list[LegendEntry]:
    """Levels from the strongest down, with the share of units in each; only those that so many heads can reach."""
    shares = np.bincount(levels, minlength=len(LEVELS)) / max(len(levels), 1)
    possible = (
        range(len(LEVELS)) if heads is None else np.unique(level_of(np.arange(heads + 1) / heads)).tolist()
    )
    names = (*LEVELS[:-1], "this head") if heads == 1 else LEVELS
    return [
        LegendEntry(LEVEL_CLASSES[level], names[level], BOUNDS[level], float(shares[level]))
        for level in reversed(possible)
    ]


def _bins(found: RetentionMap) -> int:
    return min(MAX_BINS, found.tokens)


def words_among(found: RetentionMap, spans: np.ndarray) -> np.ndarray:
    """(n,) whether each span is a word, not punctuation."""
    text = found.document_text
    return np.array([is_word(text[first:last]) for first, last in spans.tolist()], dtype=bool)


def _score_profile(found: RetentionMap, edges: np.ndarray) -> np.ndarray:
    """(L, bins) log10 of the best score in a bin over the layer's mean, both averaged over heads."""
    if found.scores is None:
        raise InputError(f"The method {found.method!r} scores nothing: draw metric='kept' instead")
    known = ~np.isnan(found.scores)
    lowest = np.fmin.reduce(found.scores, axis=(1, 2), keepdims=True)
    scores = found.scores - np.minimum(lowest, 0)  # some methods score below zero
    best = np.fmax.reduceat(scores, edges[:-1], axis=2).mean(axis=1)
    mean = scores.sum(axis=(1, 2), where=known)[:, None] / np.maximum(known.sum(axis=(1, 2)), 1)[:, None]
    ratio = np.divide(best, mean, out=np.full_like(best, np.nan), where=mean > 0)
    return np.log10(np.clip(ratio, 0.01, 100))


def _text_of(found: RetentionMap, first: int, last: int) -> str:
    spans = found.offsets[first:last]
    return found.text[min(start for start, _ in spans) : max(end for _, end in spans)]


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None
