"""Attention of one token with its weights, which fused kernels do not return. Knows nothing of caches or models."""

from __future__ import annotations

import torch
from torch import Tensor

from judgeq.attention.call import RowWeights
from judgeq.attention.softcap import hide, to_logits


def weighed_attention(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
) -> tuple[Tensor, RowWeights]:
    """Softmax attention of one token, and what it attended to: one pass over keys and values, as without.

    Args:
        queries: (1, H, 1, D).
        keys, values: (1, H_kv, K, D), the token's own row last.
        mask: (1, 1 or H, 1, K), true where the token sees a row, or what is added to its logits; None hides nothing.
        scaling, softcap: see `to_logits`.

    Returns:
        (1, 1, H, D), as transformers' attention functions do, and the weights.
    """
    heads, kv_heads = queries.shape[1], keys.shape[1]
    grouped = queries.reshape(kv_heads, heads // kv_heads, -1)  # (H_kv, G, D)
    logits = to_logits(torch.bmm(grouped, keys[0].transpose(1, 2)), scaling, softcap)  # (H_kv, G, K)
    if mask is not None:
        logits = hide(logits, mask.expand(1, heads, 1, -1).reshape(logits.shape))
    weights = logits.softmax(-1)
    return torch.bmm(weights.to(values), values[0]).reshape(1, 1, heads, -1), RowWeights(weights)
