"""From importance scores and a budget to the rows that are kept: pure functions that know no attention or caches."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.objects import brief

Kept = Tensor | tuple[Tensor, ...]
"""Kept rows of a layer, int64 and ascending: (B, H_kv, rows), or one (rows,) a KV head where their numbers differ."""

ROW_LIMIT = 2**32
"""More rows than any prompt has: head times limit plus row is a number of its own, in the order of heads and rows."""

Ranked = tuple[Tensor, Tensor]
"""Rows from the most to the least important, (B, H_kv, T) int64, and their pooled scores in that order."""


@dataclass(frozen=True)
class Forced:
    """Rows that are kept or evicted whatever their scores, the same in every layer and KV head.

    Attributes:
        pinned: kept, and counted against the budget.
        dropped: evicted even where the budget would cover them or they are sinks or recent; none of them is pinned.
    """

    __repr__ = brief

    pinned: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.pinned or self.dropped)


@dataclass(frozen=True, eq=False)
class Unsplit:
    """Kept rows of one prompt's KV heads, of which only the device knows how many each head has.

    Attributes:
        heads, rows: (R,) int64, the head and the row of each; head by head, ascending.
        counts: (H_kv,) int64, rows of each head.
    """

    __repr__ = brief

    heads: Tensor
    rows: Tensor
    counts: Tensor


VALUE_FLOOR = 1e-4
"""Added to scores before they are multiplied with the norms of values, as CriticalKV's authors do."""


def pool_scores(scores: Tensor, width: int) -> Tensor:
    """Max over `width` neighbouring rows, so that a row's neighbours survive with it (SnapKV, arXiv 2404.14469).

    Args:
        scores: (B, H_kv, T), higher = keep.
        width: odd; 1 returns the scores unchanged.
    """
    return scores if width == 1 else F.max_pool1d(scores, width, stride=1, padding=width // 2)


def best_of_words(scores: Tensor, words: Tensor) -> Tensor:
    """The best score of each row's word, so that a word is kept or evicted as one.

    Args:
        scores: (B, H_kv, T), higher = keep.
        words: (B, T) int64, the number of each row's word; rows of one word are neighbours.
    """
    changes = (words[:, 1:] != words[:, :-1]).long().cumsum(-1)
    word = F.pad(changes, (1, 0))[:, None].expand_as(scores)
    best = torch.full_like(scores, -torch.inf).scatter_reduce(-1, word, scores, "amax")
    return best.gather(-1, word)


def rank_rows(scores: Tensor, selection: Selection, forced: Forced = Forced(), words: Tensor | None = None) -> Ranked:
    """The prompt's rows from the most to the least important: the first `n` are the selection at a budget of `n`.

    Pinned rows come first, then the recent window, its last rows before the others, then the sinks. The remaining rows
    follow by pooled score; among equals the row with the higher raw score, then the earlier one, so the order is
    deterministic. Dropped rows are not in it, and pooling ignores them.

    Args:
        scores: (B, H_kv, T), higher = keep.
        forced: rows that are pinned or dropped.
        words: see `best_of_words`, where words are the selection's unit; None = each row by its own score.

    Returns:
        (B, H_kv, T) int64 rows, without those that are dropped, and their pooled scores in that order, infinite for
        pinned rows, sinks and the recent window.
    """
    batch, heads, tokens = scores.shape
    if forced.dropped:
        scores = scores.masked_fill(_places(forced, tokens, scores.device) == 2, -torch.inf)
    recent = min(selection.recent, tokens - 1)
    sinks = min(selection.sinks, tokens - 1 - recent)
    middle = scores[..., sinks : tokens - recent]
    by_raw = middle.argsort(dim=-1, descending=True, stable=True)
    pooled = pool_scores(middle, selection.pool)
    if words is not None:
        pooled = best_of_words(pooled, words[:, sinks : tokens - recent])
    pooled = pooled.gather(-1, by_raw)
    pooled, order = pooled.sort(dim=-1, descending=True, stable=True)
    last = torch.arange(tokens - 1, tokens - 1 - recent, -1, device=scores.device)
    first = torch.arange(sinks, device=scores.device)
    always = torch.cat([last, first]).expand(batch, heads, -1)
    rows = torch.cat([always, by_raw.gather(-1, order) + sinks], dim=-1)
    pooled = torch.cat([torch.full_like(always, torch.inf, dtype=pooled.dtype), pooled], dim=-1)
    return _with_forced(rows, pooled, forced) if forced else (rows, pooled)


def _with_forced(rows: Tensor, pooled: Tensor, forced: Forced) -> Ranked:
    """A ranking that begins with the pinned rows and ends before the dropped ones."""
    place = _places(forced, rows.shape[-1], rows.device)[rows]  # (B, H_kv, T)
    order = place.argsort(dim=-1, stable=True)[..., : rows.shape[-1] - len(forced.dropped)]
    pooled = pooled.masked_fill(place == 0, torch.inf)
    return rows.gather(-1, order), pooled.gather(-1, order)


@lru_cache(maxsize=8)
def _places(forced: Forced, tokens: int, device: torch.device) -> Tensor:
    """(T,) int8: 0 for pinned rows, 2 for dropped ones, 1 for all others; copied to the device once for all layers."""
    place = torch.ones(tokens, dtype=torch.int8)
    place[list(forced.pinned)], place[list(forced.dropped)] = 0, 2
    return place.to(device)


def select_rows(scores: Tensor, budget: int, selection: Selection, words: Tensor | None = None) -> Tensor:
    """Rows to keep when every KV head keeps the same number; sinks and the recent window are inside the budget.

    Args:
        scores: (B, H_kv, T), higher = keep.
        budget: rows per KV head, at least 1; `T` or more keeps every row.
        words: see `rank_rows`.

    Returns:
        (B, H_kv, min(budget, T)) int64, ascending.
    """
    return first_rows(rank_rows(scores, selection, words=words), budget)


def first_rows(ranked: Ranked, budget: int, norms: Tensor | None = None) -> Tensor:
    """The first `budget` rows of a ranking, as `select_rows` returns them; `norms` as in `allocate_rows`."""
    rows, pooled = ranked
    ordered = rows if norms is None else order_by_value(rows, pooled, norms, budget)
    return ordered[..., :budget].sort(dim=-1).values


def allocate_rows(
    ranked: Ranked,
    budget: int,
    selection: Selection,
    shares: Tensor | None = None,
    norms: Tensor | None = None,
) -> Kept | Unsplit:
    """Rows to keep under the selection's allocation; waits for no device.

    Args:
        ranked: see `rank_rows`; B is 1 unless the allocation is uniform.
        budget: rows per KV head, at least 1; the mean over the layer's heads, or over all layers with `shares`.
        shares: (H_kv,) int64, the rows that a profile or pyramid gives the heads of this layer; unused without one.
        norms: (B, H_kv, T), norms of the rows' values, where the selection is value-aware; else None.

    Raises:
        InputError: heads with budgets of their own, and more than one prompt.
    """
    if selection.allocation == "uniform":
        return first_rows(ranked, budget, norms)
    rows, pooled = ranked
    if rows.shape[0] != 1:
        raise InputError(
            f"The allocation {selection.allocation!r} serves one prompt at a time and this batch has "
            f"{rows.shape[0]}: prefill them one by one"
        )
    if selection.adapts:
        total = budget * rows.shape[1] if shares is None else sum(shares.tolist())
        return _compete(rows[0], pooled[0], total, selection, None if norms is None else norms[0])
    counts = [budget] * rows.shape[1] if shares is None else shares.tolist()
    kept = []
    for head, count in enumerate(counts):
        own = rows[0, head]
        ordered = own if norms is None else order_by_value(own, pooled[0, head], norms[0, head], count)
        kept.append(ordered[:count].sort().values)
    return tuple(kept)


def _compete(rows: Tensor, pooled: Tensor, total: int, selection: Selection, norms: Tensor | None) -> Unsplit:
    """`allocate_rows` of heads that compete for `total` rows, all (H_kv, T)."""
    counts = adaptive_counts(pooled, total, selection)
    if norms is not None:
        rows = order_by_value(rows, pooled, norms, counts[:, None])
    heads, tokens = (torch.arange(size, device=rows.device) for size in rows.shape)
    places = (heads[:, None] * ROW_LIMIT + rows).masked_fill(tokens >= counts[:, None], len(heads) * ROW_LIMIT)
    chosen = places.flatten().sort().values[:total]
    return Unsplit(chosen // ROW_LIMIT, chosen % ROW_LIMIT, counts)


def order_by_value(rows: Tensor, pooled: Tensor, norms: Tensor, count: int | Tensor) -> Tensor:
    """A ranking for `count` rows, the second half of them chosen by score and value (CriticalKV, arXiv 2502.03805).

    The first `count // 2` rows keep their places, as do all sinks and recent rows.

    Args:
        rows, pooled: (..., T) as `rank_rows` gives them.
        norms: (..., T) norm of each row's value, in the order of the prompt.
        count: one for all, or (..., 1).

    Returns:
        (..., T) int64 rows; the first `count` are the selection.
    """
    worth = (pooled + VALUE_FLOOR) * norms.gather(-1, rows)
    sure = pooled.isinf() | (torch.arange(rows.shape[-1], device=rows.device) < count // 2)
    order = worth.masked_fill(sure, torch.inf).argsort(dim=-1, descending=True, stable=True)
    return rows.gather(-1, order)


def pyramid_rows(budget: int, tokens: int, layers: int, selection: Selection) -> Tensor:
    """Rows per KV head of each layer, falling linearly from the first to the last (PyramidKV, arXiv 2406.02069).

    The authors' formula: every layer has the recent window, and the line is added to it, from `2 (b - w) - least` down
    to `least = (b - w) / beta`, and less steep where the first layer would get more than the prompt. A budget no larger
    than the window is split as if there were none. kvpress 0.5.5 differs: its line is not added to the window, and
    where late layers would get fewer rows than that it falls back to SnapKV.

    Args:
        budget: mean rows per KV head and layer, at least 1; `tokens` or more gives every layer all rows.
        tokens: `T`.

    Returns:
        (L,) int64 in [1, tokens], not rising; its sum is exactly `L * min(budget, tokens)`.
    """
    if budget >= tokens or layers <= 1:
        return torch.full((layers,), min(budget, tokens))
    window = selection.recent if budget > selection.recent else 0
    spread, room = budget - window, tokens - window
    least = max(Fraction(spread, selection.beta), Fraction(2 * spread - room), Fraction(0 if window else 1))
    slope = 2 * (spread - least) / (layers - 1)
    wanted = [window + 2 * spread - least - layer * slope for layer in range(layers)]
    rows = [math.floor(share) for share in wanted]
    by_remainder = sorted(range(layers), key=lambda layer: rows[layer] - wanted[layer])
    for layer in by_remainder[: layers * budget - sum(rows)]:
        rows[layer] += 1
    return torch.tensor(rows)


def adaptive_counts(pooled: Tensor, total: int, selection: Selection) -> Tensor:
    """Split a layer's rows over its heads by one top-k over all of them (AdaKV, arXiv 2407.11550).

    Sinks, the recent window and each head's own best rows up to the floor come first; the rest compete across heads.
    Among equals the row that ranks higher in its head wins, then the lower head: equal scores give equal counts.

    Args:
        pooled: (H_kv, T) as `rank_rows` gives them, comparable across heads, as attention is.
        total: rows of the layer, at least one a head.

    Returns:
        (H_kv,) int64 rows of each head, 1 to T, `min(total, H_kv * T)` together.
    """
    heads = pooled.shape[0]
    floor = max(1, math.ceil(selection.floor * (total // heads) - 1e-9))  # 0.1 * 30 is a little more than 3
    sure = torch.arange(pooled.shape[1], device=pooled.device) < floor
    ranked = pooled.masked_fill(sure, torch.inf).T.flatten()  # rank by rank, each with all heads
    chosen = ranked.argsort(descending=True, stable=True)[:total] % heads
    # `bincount` would wait for the device
    return chosen.new_zeros(heads).scatter_add_(0, chosen, torch.ones_like(chosen))


def overlap(kept: Kept, best: Kept) -> Tensor:
    """Share of `best` that is in `kept`, averaged over heads and batch.

    Args:
        kept, best: row indices, distinct in each head; heads may hold different numbers of them.
    """
    ours, theirs = (rows if isinstance(rows, tuple) else rows.flatten(0, 1) for rows in (kept, best))
    shares = [torch.isin(wanted, rows).float().mean() for rows, wanted in zip(ours, theirs, strict=True)]
    return torch.stack(shares).mean()
