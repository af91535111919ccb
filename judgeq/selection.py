"""From importance scores and a budget to the rows that stay: pure functions, knows nothing of attention or caches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.config import Selection


def pool_scores(scores: Tensor, width: int) -> Tensor:
    """Max over `width` neighbouring rows, so that a row's neighbours survive with it (SnapKV, arXiv 2404.14469).

    Args:
        scores: (B, H_kv, T), higher = keep.
        width: odd; 1 returns the scores unchanged.
    """
    return scores if width == 1 else F.max_pool1d(scores, width, stride=1, padding=width // 2)


def select_rows(scores: Tensor, budget: int, selection: Selection) -> Tensor:
    """Rows to keep in each KV head.

    Sinks and the recent window are kept first, inside the budget: when the budget is smaller than both together, the
    recent window wins, its last rows first. The remaining rows compete by pooled score; among equals the row with the
    higher raw score wins, then the earlier one, so the choice is deterministic.

    Args:
        scores: (B, H_kv, T), higher = keep.
        budget: rows per KV head, at least 1; `T` or more keeps every row.

    Returns:
        (B, H_kv, min(budget, T)) int64, ascending.
    """
    batch, heads, tokens = scores.shape
    if budget >= tokens:
        return torch.arange(tokens, device=scores.device).expand(batch, heads, tokens)
    recent = min(selection.recent, budget)
    sinks = min(selection.sinks, budget - recent)
    middle = scores[..., sinks : tokens - recent]
    pooled = pool_scores(middle, selection.pool)
    by_raw = middle.argsort(dim=-1, descending=True, stable=True)
    by_pooled = pooled.gather(-1, by_raw).argsort(dim=-1, descending=True, stable=True)
    chosen = by_raw.gather(-1, by_pooled)[..., : budget - recent - sinks] + sinks
    first = torch.arange(sinks, device=scores.device).expand(batch, heads, sinks)
    last = torch.arange(tokens - recent, tokens, device=scores.device).expand(batch, heads, recent)
    return torch.cat([first, chosen, last], dim=-1).sort(dim=-1).values
