"""From importance scores and a budget to the rows that stay: pure functions, knows nothing of attention or caches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.config import Selection
from judgeq.errors import InputError

Kept = Tensor | tuple[Tensor, ...]
"""Kept rows of a layer, int64 and ascending: (B, H_kv, rows), or one (rows,) a KV head where their numbers differ."""


def pool_scores(scores: Tensor, width: int) -> Tensor:
    """Max over `width` neighbouring rows, so that a row's neighbours survive with it (SnapKV, arXiv 2404.14469).

    Args:
        scores: (B, H_kv, T), higher = keep.
        width: odd; 1 returns the scores unchanged.
    """
    return scores if width == 1 else F.max_pool1d(scores, width, stride=1, padding=width // 2)


def rank_rows(scores: Tensor, selection: Selection) -> tuple[Tensor, Tensor]:
    """The prompt's rows from the most to the least important: the first `n` are the selection at a budget of `n`.

    The recent window comes first, its last rows before the others, then the sinks. The remaining rows follow by pooled
    score; among equals the row with the higher raw score, then the earlier one, so the order is deterministic.

    Args:
        scores: (B, H_kv, T), higher = keep.

    Returns:
        (B, H_kv, T) int64 rows, and their pooled scores in that order, infinite for sinks and the recent window.
    """
    batch, heads, tokens = scores.shape
    recent = min(selection.recent, tokens - 1)
    sinks = min(selection.sinks, tokens - 1 - recent)
    middle = scores[..., sinks : tokens - recent]
    by_raw = middle.argsort(dim=-1, descending=True, stable=True)
    pooled = pool_scores(middle, selection.pool).gather(-1, by_raw)
    pooled, order = pooled.sort(dim=-1, descending=True, stable=True)
    last = torch.arange(tokens - 1, tokens - 1 - recent, -1, device=scores.device)
    first = torch.arange(sinks, device=scores.device)
    always = torch.cat([last, first]).expand(batch, heads, -1)
    rows = torch.cat([always, by_raw.gather(-1, order) + sinks], dim=-1)
    return rows, torch.cat([torch.full_like(always, torch.inf, dtype=pooled.dtype), pooled], dim=-1)


def select_rows(scores: Tensor, budget: int, selection: Selection) -> Tensor:
    """Rows to keep when every KV head keeps the same number; sinks and the recent window are inside the budget.

    Args:
        scores: (B, H_kv, T), higher = keep.
        budget: rows per KV head, at least 1; `T` or more keeps every row.

    Returns:
        (B, H_kv, min(budget, T)) int64, ascending.
    """
    return rank_rows(scores, selection)[0][..., :budget].sort(dim=-1).values


def allocate_rows(scores: Tensor, budget: int, selection: Selection, shares: Tensor | None = None) -> Kept:
    """Rows to keep under the selection's allocation.

    Args:
        scores: (B, H_kv, T), higher = keep; B is 1 unless the allocation is uniform.
        budget: rows per KV head, at least 1; a head's mean over the layer, or over all layers with a profile.
        shares: (H_kv,) int64, the rows that a profile gives the heads of this layer; unused without one.

    Raises:
        InputError: heads with budgets of their own, and more than one prompt.
    """
    if selection.allocation == "uniform":
        return select_rows(scores, budget, selection)
    if scores.shape[0] != 1:
        raise InputError(
            f"The allocation {selection.allocation!r} serves one prompt at a time and this batch has "
            f"{scores.shape[0]}: prefill them one by one"
        )
    rows, pooled = rank_rows(scores, selection)
    counts = [budget] * scores.shape[1] if shares is None else shares.tolist()
    if selection.adapts:
        counts = adaptive_counts(pooled[0], sum(counts), selection)
    return tuple(head[:count].sort().values for head, count in zip(rows[0], counts, strict=True))


def adaptive_counts(pooled: Tensor, total: int, selection: Selection) -> list[int]:
    """Split a layer's rows over its heads by one top-k over all of them (AdaKV, arXiv 2407.11550).

    Sinks, the recent window and each head's own best rows up to the floor come first; the rest compete across heads.
    Among equals the row that ranks higher in its head wins, then the lower head: equal scores give equal counts.

    Args:
        pooled: (H_kv, T) as `rank_rows` gives them, comparable across heads, as attention is.
        total: rows of the layer, at least one a head.

    Returns:
        Rows of each head, 1 to T, `min(total, H_kv * T)` together.
    """
    heads = pooled.shape[0]
    floor = max(1, math.ceil(selection.floor * (total // heads) - 1e-9))  # 0.1 * 30 is a little more than 3
    sure = torch.arange(pooled.shape[1], device=pooled.device) < floor
    ranked = pooled.masked_fill(sure, torch.inf).T.flatten()  # rank by rank, each with all heads
    chosen = ranked.argsort(descending=True, stable=True)[:total] % heads
    return torch.bincount(chosen, minlength=heads).tolist()
