"""Why something stays or goes: ranks and margins of scores, and the sentences for them.

A head keeps rows by more than its raw scores (neighbours, first and last rows, values), so these figures tell how a
score compares and not what decided.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from judgeq.objects import brief
from judgeq.retention.checks import check_span
from judgeq.retention.rendering import shown_positions
from judgeq.retention.units import Granularity

if TYPE_CHECKING:
    from judgeq.retention.map import RetentionMap

WORDS = {
    "kept": "{title} keeps it in {count} of {heads} heads.",
    "mean": "{title} keeps its tokens in {share} of {heads} heads on average.",
    "one_kept": "{title} keeps it in this head.",
    "one_gone": "{title} has thrown it away in this head.",
    "one_mean": "{title} keeps {share} of its tokens in this head.",
    "rank": "Rank of its score: {best} of {rows} in its best head, {median} in a middle one.",
    "one_rank": "Rank of its score: {best} of {rows}.",
    "margin": "In a middle head the score is {margin} times what was needed.",
    "one_margin": "The score is {margin} times what was needed.",
    "one_place": "That alone would not have kept it: a strong neighbour, its place or its value did.",
    "one_passed": "That would have been enough, had others not been kept for their neighbours, place or value.",
    "unscored": "Nothing is scored there.",
}
"""Sentences about one stretch; those with `one_` where a single head is looked at."""
REGION = {
    "region": "Layer {layer}, tokens {first} to {last}.",
    "outside": "This stretch of the prompt is not the document but the question or the chat template.",
    "held": "held; Enter or a click lets go",
}
HINT = (
    "Point at a word, tap it, or go through the text with the arrow keys to read here why it stayed or went. "
    "Enter holds the line; a selection tells what survived of it."
)
MARGIN_CAP = 9999


@dataclass(frozen=True)
class Explanation:
    """Why a stretch of the document stays or goes. A head is one KV head of one layer.

    In each head the stretch counts with its best-scored token. Scores are compared as they are in
    `RetentionMap.scores`: before pooling, first and last rows and values count. A row can stay below the cut for one
    of these, and go above it.

    Attributes:
        title: of the method.
        text: the stretch, as the model read it.
        tokens: how many tokens hold a character of it.
        heads: heads that were looked at.
        kept: how many of them keep its best-kept token.
        rows: the prompt's tokens, among which it is ranked.
        best_rank: its rank in the head where it ranks highest; 1 = the highest score of the head, equal scores share
            the better rank. None where nothing was scored.
        median_rank: the median of its ranks over the heads that have scores; None where nothing was scored.
        margin: its score as a multiple of the head's cut, which is the n-th highest score where the head keeps n rows:
            1 or more is among the n highest. The median over heads. None where nothing was scored, nothing was thrown
            away, or the cut is not above zero.
    """

    __repr__ = brief

    title: str
    text: str
    tokens: int
    heads: int
    kept: int
    rows: int
    best_rank: int | None
    median_rank: float | None
    margin: float | None

    def sentences(self) -> list[str]:
        """The figures in words."""
        one = "one_" if self.heads == 1 else ""
        kept = "kept" if not one else "one_kept" if self.kept else "one_gone"
        said = [WORDS[kept].format(title=self.title, count=f"{self.kept:,}", heads=f"{self.heads:,}")]
        if self.best_rank is None or self.median_rank is None:
            return [*said, WORDS["unscored"]]
        ranks = {"best": f"{self.best_rank:,}", "median": f"{round(self.median_rank):,}"}
        said.append(WORDS[f"{one}rank"].format(**ranks, rows=f"{self.rows:,}"))
        if self.margin is not None:
            said.append(WORDS[f"{one}margin"].format(margin=f"{self.margin:.2f}"))
            if one and self.kept and self.margin < 1:
                said.append(WORDS["one_place"])
            elif one and not self.kept and self.margin > 1:
                said.append(WORDS["one_passed"])
        return said


@dataclass(frozen=True, eq=False)
class Standing:
    """Figures of n stretches, (n,) float64 each, NaN where there is none; see `Explanation`."""

    __repr__ = brief

    best_rank: np.ndarray
    median_rank: np.ndarray
    margin: np.ndarray


def explain(
    found: RetentionMap, title: str, start: int, end: int, layer: int | None, head: int | None
) -> Explanation:
    """See `RetentionMap.explain`."""
    tokens = check_span(found, start, end)
    heads = len(found.rows_of(layer, head))
    share = found.share_kept(layer, head)[tokens.start : tokens.stop].max()
    standing = standing_of(found, np.array([[tokens.start, tokens.stop]]), layer, head)
    best, median, margin = (
        None if np.isnan(figure[0]) else float(figure[0])
        for figure in (standing.best_rank, standing.median_rank, standing.margin)
    )
    return Explanation(
        title=title,
        text=found.document_text[start:end],
        tokens=len(tokens),
        heads=heads,
        kept=round(share * heads),
        rows=found.tokens,
        best_rank=None if best is None else int(best),
        median_rank=median,
        margin=margin,
    )


def standing_of(
    found: RetentionMap, ranges: np.ndarray, layer: int | None = None, head: int | None = None
) -> Standing:
    """Ranks and margins of stretches.

    Args:
        ranges: (n, 2) first token of each, and one past its last.
        layer, head: as in `RetentionMap.share_kept`.
    """
    missing = np.full(len(ranges), np.nan)
    rows_of_heads = found.rows_of(layer, head)
    if found.scores is None or not len(ranges):
        return Standing(missing, missing, missing)
    scores = found.scores if layer is None else found.scores[layer : layer + 1]
    scores = scores if head is None else scores[:, head : head + 1]
    empty = ranges[:, 0] >= ranges[:, 1]
    ranks, margins = [], []
    for row, kept in zip(scores.reshape(-1, found.tokens), rows_of_heads, strict=True):
        ordered = np.sort(row[~np.isnan(row)])
        if not len(ordered):
            continue
        best = np.fmax.reduceat(np.append(row, np.nan), ranges.ravel())[::2]
        unknown = np.isnan(best) | empty
        rank = 1 + len(ordered) - np.searchsorted(ordered, best, side="right")
        ranks.append(np.where(unknown, np.nan, rank))
        cut = float(ordered[-len(kept)]) if 0 < len(kept) < len(ordered) else 0.0
        margins.append(np.where(unknown, np.nan, best / cut) if cut > 0 else missing)
    if not ranks:
        return Standing(missing, missing, missing)
    stacked = np.stack(ranks)
    return Standing(np.fmin.reduce(stacked), _median(stacked), _median(np.stack(margins)))


def token_ranges(found: RetentionMap, spans: np.ndarray) -> np.ndarray:
    """(n, 2) int64: the tokens that hold characters of each span of the document, as `RetentionMap.tokens_at` finds.

    Args:
        spans: (n, 2) character spans, counted from the document's start.
    """
    offsets = np.asarray(found.offsets, dtype=np.int64) - found.document[0]
    ends = np.maximum.accumulate(offsets[:, 1])
    starts = np.minimum.accumulate(offsets[::-1, 0])[::-1]
    first = np.searchsorted(ends, spans[:, 0], side="right")
    return np.stack([first, np.searchsorted(starts, spans[:, 1], side="left")], axis=1)


def reading_json(
    maps: Sequence[tuple[str, RetentionMap]],
    granularity: Granularity,
    layer: int | None,
    head: int | None,
    edges: np.ndarray,
) -> str:
    """What a script on a page needs to tell about any unit of the document without asking again, as short JSON.

    Positions are those of `rendering.shown_positions`. `units` alternates the gap before a unit with its length;
    `bins` gives the heatmap's bins as start, end (equal where a bin lies outside the document). For each method: heads
    that keep a token or a word (of a sentence or a paragraph: the share in per mille), ranks with 0 for none, margins
    in hundredths with -1 for none.

    Args:
        maps: titles and maps, all of one prompt.
        edges: token positions of the heatmap's bins.
    """
    first = maps[0][1]
    position = shown_positions(first.document_text)
    spans, _ = first.units(granularity, layer, head)
    whole = granularity in ("token", "word")
    ranges = token_ranges(first, spans)
    values = {
        "units": np.diff(position[spans].ravel(), prepend=0).tolist(),
        "whole": whole,
        "rows": first.tokens,
        "edges": edges.tolist(),
        "bins": position[_bins(first, edges)].ravel().tolist(),
        "words": WORDS | REGION,
        "methods": [_method(title, each, granularity, ranges, layer, head, whole) for title, each in maps],
    }
    return json.dumps(values, separators=(",", ":"))


def _method(
    title: str,
    found: RetentionMap,
    granularity: Granularity,
    ranges: np.ndarray,
    layer: int | None,
    head: int | None,
    whole: bool,
) -> dict[str, Any]:
    shares = found.units(granularity, layer, head)[1]
    heads = len(found.rows_of(layer, head))
    standing = standing_of(found, ranges, layer, head)
    hundredths = (standing.margin * 100).clip(0, MARGIN_CAP)
    return {
        "title": title,
        "heads": heads,
        "kept": np.rint(shares * (heads if whole else 1000)).astype(int).tolist(),
        "best": np.nan_to_num(standing.best_rank, nan=0).astype(int).tolist(),
        "median": np.rint(np.nan_to_num(standing.median_rank, nan=0)).astype(int).tolist(),
        "margin": np.rint(np.nan_to_num(hundredths, nan=-1)).astype(int).tolist(),
    }


def _bins(found: RetentionMap, edges: np.ndarray) -> np.ndarray:
    """(bins, 2) character spans in the document, cut to it; empty outside."""
    start, end = found.document
    offsets = np.asarray(found.offsets, dtype=np.int64).clip(start, end) - start
    return np.array(
        [[offsets[first:last, 0].min(), offsets[first:last, 1].max()] for first, last in pairwise(edges)]
    )


def _median(values: np.ndarray) -> np.ndarray:
    """(n,) median over the first axis of those that are numbers; NaN where none is."""
    ordered = np.sort(values, axis=0)  # NaN last
    count = (~np.isnan(values)).sum(axis=0)
    columns = np.arange(values.shape[1])
    low, high = ordered[np.maximum(count - 1, 0) // 2, columns], ordered[count // 2, columns]
    return np.where(count > 0, (low + high) / 2, np.nan)
