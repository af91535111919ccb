"""Why something is kept or evicted: ranks and margins of scores, and the sentences for them.

A head keeps rows by more than its raw scores (neighbours, first and last rows, values), so these figures say how a
score compares and not what decided.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judgeq.objects import brief
from judgeq.retention.arrays import KeptRows
from judgeq.retention.text import subject

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
"""Sentences about one span; those with `one_` where there is a single head."""


@dataclass(frozen=True)
class Explanation:
    """Why a span of the document is kept or evicted. A head is one KV head of one layer.

    In each head the span counts with its best-scored token. Scores are compared as they are in
    `RetentionMap.scores`: before pooling, first and last rows and values count. A row can be evicted above the cut for
    one of these, and kept below it.

    Attributes:
        title: of the method, as at the start of a sentence.
        text: the span, as the model read it.
        tokens: how many tokens hold a character of it.
        heads: heads that are counted.
        kept: how many of them keep its best-kept token.
        rows: the prompt's tokens, among which it is ranked.
        best_rank: its rank in the head where it ranks highest; 1 = the highest score of the head, equal scores share
            the better rank. None where nothing was scored.
        median_rank: the median of its ranks over the heads that have scores; None where nothing was scored.
        margin: its score as a multiple of the head's cut, which is the n-th highest score where the head keeps n rows:
            1 or more is among the n highest. The median over heads. None where nothing was scored, nothing was
            evicted, or the cut is not above zero.
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
        names = ["kept" if not one else "one_kept" if self.kept else "one_gone"]
        if self.best_rank is None or self.median_rank is None:
            names.append("unscored")
        else:
            names.append(f"{one}rank")
            if self.margin is not None:
                names.append(f"{one}margin")
                if one and self.kept and self.margin < 1:
                    names.append("one_place")
                elif one and not self.kept and self.margin > 1:
                    names.append("one_passed")
        values = {
            "title": self.title,
            "count": f"{self.kept:,}",
            "heads": f"{self.heads:,}",
            "rows": f"{self.rows:,}",
            "best": f"{self.best_rank or 0:,}",
            "median": f"{round(self.median_rank or 0):,}",
            "margin": f"{self.margin or 0:.2f}",
        }
        return [WORDS[name].format(**values) for name in names]


@dataclass(frozen=True, eq=False)
class Ranks:
    """Figures of n spans, (n,) float64 each, NaN where there is none; see `Explanation`."""

    __repr__ = brief

    best_rank: np.ndarray
    median_rank: np.ndarray
    margin: np.ndarray


def explain(found: KeptRows, start: int, end: int, layer: int | None, head: int | None) -> Explanation:
    """See `RetentionMap.explain`."""
    tokens = found.tokens_of(start, end)
    heads = len(found.rows_of(layer, head))
    share = found.share_kept(layer, head)[tokens.start : tokens.stop].max()
    ranks = ranks_of(found, np.array([[tokens.start, tokens.stop]]), layer, head)
    best, median, margin = (
        None if np.isnan(figure[0]) else float(figure[0])
        for figure in (ranks.best_rank, ranks.median_rank, ranks.margin)
    )
    return Explanation(
        title=subject(found),
        text=found.document_text[start:end],
        tokens=len(tokens),
        heads=heads,
        kept=round(share * heads),
        rows=found.tokens,
        best_rank=None if best is None else int(best),
        median_rank=median,
        margin=margin,
    )


def ranks_of(found: KeptRows, ranges: np.ndarray, layer: int | None = None, head: int | None = None) -> Ranks:
    """Ranks and margins of spans of tokens.

    Args:
        ranges: (n, 2) first token of each, and one past its last.
        layer, head: as in `RetentionMap.share_kept`.
    """
    missing = np.full(len(ranges), np.nan)
    rows_of_heads = found.rows_of(layer, head)
    if found.scores is None or not len(ranges):
        return Ranks(missing, missing, missing)
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
        return Ranks(missing, missing, missing)
    stacked = np.stack(ranks)
    return Ranks(np.fmin.reduce(stacked), _median(stacked), _median(np.stack(margins)))


def token_ranges(found: KeptRows, spans: np.ndarray) -> np.ndarray:
    """(n, 2) int64: the tokens that hold characters of each span of the document, as `RetentionMap.tokens_at` finds.

    Args:
        spans: (n, 2) character spans, counted from the document's start.
    """
    offsets = np.asarray(found.offsets, dtype=np.int64) - found.document[0]
    ends = np.maximum.accumulate(offsets[:, 1])
    starts = np.minimum.accumulate(offsets[::-1, 0])[::-1]
    first = np.searchsorted(ends, spans[:, 0], side="right")
    return np.stack([first, np.searchsorted(starts, spans[:, 1], side="left")], axis=1)


def _median(values: np.ndarray) -> np.ndarray:
    """(n,) median over the first axis of those that are numbers; NaN where none is."""
    ordered = np.sort(values, axis=0)  # NaN last
    count = (~np.isnan(values)).sum(axis=0)
    columns = np.arange(values.shape[1])
    low, high = ordered[np.maximum(count - 1, 0) // 2, columns], ordered[count // 2, columns]
    return np.where(count > 0, (low + high) / 2, np.nan)
