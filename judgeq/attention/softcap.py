"""Attention logits under a soft cap (Gemma 2): where the cap is applied, and attention that SDPA cannot compute.

Knows nothing of models, caches or methods.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

QUERY_BLOCK = 256
"""Queries whose attention is computed at once where all of the prompt's count."""


def to_logits(products: Tensor, scaling: float, softcap: float | None = None) -> Tensor:
    """Attention logits in float32.

    Args:
        products: dot products of queries and keys, of any shape; overwritten where they are in float32 already.
        scaling: factor on them.
        softcap: no logit is larger, or smaller than its negative; they bend towards it as tanh does. None = no cap.
    """
    logits = products.float().mul_(scaling)
    return logits if softcap is None else torch.tanh(logits / softcap) * softcap


def masked_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float, softcap: float | None
) -> Tensor:
    """Softmax attention under a mask, capped or not.

    Args:
        queries: (B, H_kv, Q, D); query heads of a group take the place of positions, so that no row is repeated.
        keys, values: (B, H_kv, K, D).
        mask: true where a query sees a row, anything that spreads to (B, H_kv, Q, K).
        scaling, softcap: see `to_logits`.

    Returns:
        (B, H_kv, Q, D).
    """
    if softcap is None:
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scaling)
    spread = mask.expand(*queries.shape[:3], keys.shape[2])
    return capped_attention(queries, keys, values, spread, scaling, softcap).transpose(1, 2)


def grouped_attention(queries: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
    """Attention of one token to every row: the query heads of a group take the place of positions.

    Args:
        queries: (B, H, 1, D).
        keys, values: (B, H_kv, K, D).
        scaling: see `to_logits`.

    Returns:
        (B, 1, H, D), as transformers' attention functions do.
    """
    grouped = queries.unflatten(1, (keys.shape[1], -1)).squeeze(3)  # (B, H_kv, G, D)
    return F.scaled_dot_product_attention(grouped, keys, values, scale=scaling).flatten(1, 2)[:, None]


def capped_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, scaling: float, softcap: float
) -> Tensor:
    """Softmax attention over capped logits, in blocks of queries, since all logits at once are large.

    Args:
        queries: (B, H, Q, D).
        keys, values: (B, H_kv, K, D); the last `Q` rows are the queries' own.
        mask: true where a query sees a row, or what is added to its logits: (B, H_kv, Q, K), or 1 where they share
            it; None = causal.
        scaling, softcap: see `to_logits`.

    Returns:
        (B, Q, H, D), as transformers' attention functions do.
    """
    batch, heads, count, dim = queries.shape
    kv_heads, rows = keys.shape[1:3]
    if mask is None:
        mask = torch.ones(count, rows, dtype=torch.bool, device=keys.device).tril(rows - count)[None, None]
    mask = mask.expand(-1, -1, count, -1)
    grouped = queries.reshape(batch, kv_heads, heads // kv_heads, count, dim)
    keys, values = keys[:, :, None], values[:, :, None]  # (B, H_kv, 1, K, D)
    blocks = []
    for block, seen in zip(grouped.split(QUERY_BLOCK, 3), mask.split(QUERY_BLOCK, 2), strict=True):
        logits = to_logits(block @ keys.transpose(-1, -2), scaling, softcap)  # (B, H_kv, G, q, K)
        blocks.append(hide(logits, seen[:, :, None]).softmax(-1).to(values) @ values)
    return torch.cat(blocks, 3).flatten(1, 2).transpose(1, 2).contiguous()


def hide(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits under a mask, see `capped_attention`.

    Finite everywhere: a query that sees nothing, such as padding, still gets numbers.
    """
    if mask.dtype == torch.bool:
        return logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
    return logits + mask
