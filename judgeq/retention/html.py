"""A retention map as HTML without scripts: sentences, a legend, and the document with its marks.

Every text is untrusted; the templates escape it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup

from judgeq.look.format import percent
from judgeq.look.pages import css, render
from judgeq.look.palette import variables
from judgeq.retention.arrays import KeptRows
from judgeq.retention.explanation import WORDS, ranks_of, token_ranges
from judgeq.retention.text import LEVELS, blocks, level_of, sentences, shown_positions, subject
from judgeq.retention.units import Granularity

MAX_BINS = 200
"""Stretches of the prompt that a heatmap has at most."""
LEVEL_CLASSES = ("", "jq-l1", "jq-l2", "jq-l3", "jq-l4", "jq-l5")
"""Class of a mark of each level; level 0 has no mark."""
BOUNDS = ("", "up to 10\u00a0%", "up to 25\u00a0%", "up to 50\u00a0%", "over 50\u00a0%", "")
"""What each level means."""
DIFFERENCE_CLASSES = ("", "jq-a", "jq-b", "jq-both")
"""Class of what neither, only the first, only the second, and both keep."""
REGION = {
    "region": "Layer {layer}, tokens {first} to {last}.",
    "outside": "This stretch of the prompt is not the document but the question or the chat template.",
    "held": "held; Enter or a click releases it",
}
HINT = (
    "Point at a word, tap it, or go through the text with the arrow keys to read here why it was kept or evicted. "
    "Enter holds the line; a selection shows how much of it survived."
)
MARGIN_CAP = 9999


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend: the class of its marks ("" = none), name, what it means, how much of the text has it."""

    mark: str
    name: str
    bound: str
    share: float


def map_html(found: KeptRows, granularity: Granularity, layer: int | None, head: int | None, reading: bool) -> str:
    """See `RetentionMap.to_html`."""
    spans, shares = found.units(granularity, layer, head)
    levels = level_of(shares)
    whole = granularity in ("token", "word")
    heads = len(found.rows_of(layer, head))
    possible = np.unique(level_of(np.arange(heads + 1) / heads)).tolist() if whole else range(len(LEVELS))
    names = (*LEVELS[:-1], "this head") if heads == 1 else LEVELS
    parts = _shares(found, granularity, spans, levels, len(LEVELS))
    return _document(
        [found],
        (granularity, layer, head),
        reading,
        sentences=sentences(found, layer, head),
        title=f"Share of the document’s {granularity}s "
        f"{'that are kept by' if whole else 'whose tokens are kept, on average, by'} …",
        legend=[
            LegendEntry(LEVEL_CLASSES[level], names[level], BOUNDS[level], parts[level]) for level in reversed(possible)
        ],
        label="Document, marked by how many heads keep it",
        blocks=blocks(found.document_text, spans, levels),
        classes=LEVEL_CLASSES,
    )


def difference_html(
    found: KeptRows,
    other: KeptRows,
    granularity: Granularity,
    layer: int | None,
    head: int | None,
    reading: bool,
) -> str:
    """See `RetentionMap.difference_html`."""
    found.check_same_prompt(other)
    spans, _ = found.units(granularity, layer, head)
    thresholds = [float(each.share_kept(layer, head).mean()) for each in (found, other)]
    kept = []
    for each, threshold in zip((found, other), thresholds, strict=True):
        shares = each.units(granularity, layer, head)[1]
        kept.append(((shares > 0) & (shares >= threshold - 1e-9)).astype(np.int64))
    levels = kept[0] + 2 * kept[1]
    parts = _shares(found, granularity, spans, levels, 4)
    neither, first, second, both = map(percent, parts)
    one, two = (each.title or each.method for each in (found, other))
    unbroken_one, unbroken_two = (name.replace(" ", "\N{NO-BREAK SPACE}") for name in (one, two))
    where = "" if layer is None else f" in layer {layer}"
    where += "" if head is None else f" (KV head {head})"
    if len(found.rows_of(layer, head)) == 1:
        rule = f"Both look with one head{where}."
    else:
        rule = (
            f"A {granularity} counts as kept where at least as many heads hold it as hold an average token: "
            f"{percent(thresholds[0])} of the heads{where} with {one}, {percent(thresholds[1])} with {two}."
        )
    return _document(
        [found, other],
        (granularity, layer, head),
        reading,
        sentences=[
            f"A double line: both keep it. A plain line: only {unbroken_one}. A dashed line: only {unbroken_two}. "
            "Grey: evicted by both.",
            f"Of the document’s {granularity}s, both keep {both}, only {one} keeps {first}, only {two} keeps {second}, "
            f"and neither keeps {neither}.",
            rule,
        ],
        title=f"Share of the document’s {granularity}s",
        legend=[
            LegendEntry("jq-both", "both keep it", "", parts[3]),
            LegendEntry("jq-a", f"only {one}", "", parts[1]),
            LegendEntry("jq-b", f"only {two}", "", parts[2]),
            LegendEntry("", "neither keeps it", "", parts[0]),
        ],
        label=f"Document, marked by what {one} and {two} keep of it",
        blocks=blocks(found.document_text, spans, levels),
        classes=DIFFERENCE_CLASSES,
    )


@cache
def style_sheet() -> Markup:
    """CSS of the map, which each fragment brings with it.

    The page's own choice of light or dark (Gradio, JupyterLab, Visual Studio Code) comes before the system's.
    """
    light = "body:not(.dark) .gradio-container .jq-map,[data-jp-theme-light=true] .jq-map,.vscode-light .jq-map"
    dark = ".dark .jq-map,[data-jp-theme-light=false] .jq-map,.vscode-dark .jq-map"
    return Markup(variables(".jq-map", light=light, dark=dark)) + css("map")


def _shares(
    found: KeptRows, granularity: Granularity, spans: np.ndarray, levels: np.ndarray, count: int
) -> list[float]:
    """Share of units at each level; among words, punctuation does not count."""
    counted = levels[found.words_among(spans)] if granularity == "word" else levels
    return (np.bincount(counted, minlength=count) / max(len(counted), 1)).tolist()


def _document(
    maps: Sequence[KeptRows], view: tuple[Granularity, int | None, int | None], reading: bool, **values: Any
) -> str:
    figures = unit_figures(maps, *view) if reading else ""
    return render("map.html.j2", css=style_sheet(), hint=HINT, two=len(maps) > 1, figures=figures, **values)


def unit_figures(maps: Sequence[KeptRows], granularity: Granularity, layer: int | None, head: int | None) -> str:
    """What a script on a page needs to explain any unit of the document without another request, as short JSON.

    Positions are those of `text.shown_positions`. `units` alternates the gap before a unit with its length; `edges` are
    the token positions of the heatmap's bins, `bins` their start and end in the document (equal where a bin lies
    outside of it). For each method: heads that keep a token or a word (of a sentence or a paragraph: the share in per
    mille), ranks with 0 for none, margins in hundredths with -1 for none.

    Args:
        maps: all of one prompt.
    """
    first = maps[0]
    position = shown_positions(first.document_text)
    spans, _ = first.units(granularity, layer, head)
    ranges = token_ranges(first, spans)
    edges = first.bin_edges(min(MAX_BINS, first.tokens))
    start, end = first.document
    offsets = np.asarray(first.offsets, dtype=np.int64).clip(start, end) - start
    bins = np.array([[offsets[a:b, 0].min(), offsets[a:b, 1].max()] for a, b in pairwise(edges)])
    whole = granularity in ("token", "word")
    methods = []
    for found in maps:
        heads = len(found.rows_of(layer, head))
        shares = found.units(granularity, layer, head)[1]
        ranks = ranks_of(found, ranges, layer, head)
        figures = {
            "kept": shares * (heads if whole else 1000),
            "best": np.nan_to_num(ranks.best_rank, nan=0),
            "median": np.nan_to_num(ranks.median_rank, nan=0),
            "margin": np.nan_to_num((ranks.margin * 100).clip(0, MARGIN_CAP), nan=-1),
        }
        whole_numbers = {name: np.rint(values).astype(int).tolist() for name, values in figures.items()}
        methods.append({"title": subject(found), "heads": heads, **whole_numbers})
    values = {
        "units": np.diff(position[spans].ravel(), prepend=0).tolist(),
        "whole": whole,
        "rows": first.tokens,
        "edges": edges.tolist(),
        "bins": position[bins].ravel().tolist(),
        "words": WORDS | REGION,
        "methods": methods,
    }
    return json.dumps(values, separators=(",", ":"))
