"""Importance of prompt rows from queries and keys: pure functions, knows nothing of models, methods or budgets.

Letters: `B` batch, `H` query heads, `H_kv` KV heads, `G = H / H_kv`, `T` prompt tokens, `K` keys, `S` probing queries,
`D` head dimension.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from judgeq.attention.softcap import QUERY_BLOCK, to_logits

GroupMerge = Literal["mean", "max"]
"""How the query heads of a group become one score."""
Aggregation = Literal["mean", "max", "largest", "defensive"]
"""How queries and query heads become one score: the mean of both; the largest head's mean over the queries; the largest
of any query and head; or that, and no less than the mean of its KV head's (DefensiveKV, arXiv 2510.13334)."""
LARGEST = ("largest", "defensive")
"""Those that take the largest over queries, not the mean."""


def attention_logits(
    queries: Tensor,
    keys: Tensor,
    scaling: float,
    first_position: int,
    softcap: float | None = None,
) -> Tensor:
    """Causally masked attention logits, the query heads of a KV group side by side.

    Args:
        queries: (B, H, S, D), after RoPE, at positions `first_position ... first_position + S - 1`.
        keys: (B, H_kv, K, D), after RoPE, at positions `0 ... K - 1`.
        scaling: factor on the dot product, usually `D ** -0.5`.
        first_position: position of the first query among the keys.
        softcap: bound of the logits, see `softcap.to_logits`; None = no bound.

    Returns:
        (B, H_kv, G, S, K) float32, `-inf` where the key comes after the query (causal mask).
    """
    batch, heads, count, dim = queries.shape
    kv_heads, n_keys = keys.shape[1], keys.shape[2]
    grouped = queries.reshape(batch, kv_heads, heads // kv_heads, count, dim)  # (B, H_kv, G, S, D)
    logits = to_logits(torch.einsum("bkgsd,bktd->bkgst", grouped, keys), scaling, softcap)
    # most keys precede all queries: masking in place, from the first query on, saves a copy of all logits
    positions = torch.arange(first_position, first_position + count, device=keys.device)
    hidden = torch.arange(first_position, n_keys, device=keys.device)[None, :] > positions[:, None]
    logits[..., first_position:].masked_fill_(hidden, float("-inf"))
    return logits


def attention_to_prompt(
    queries: Tensor,
    keys: Tensor,
    scaling: float,
    first_position: int,
    prompt_tokens: int,
    softcap: float | None = None,
) -> Tensor:
    """Attention that each probing query pays to each prompt row.

    The softmax runs over the whole sequence, later rows included, and is then cut to the prompt (the protocol of the
    paper's group). Arguments as in `attention_logits`; `prompt_tokens` is `T`.

    Returns:
        (B, H_kv, G, S, T) float32; a row sums to at most 1.
    """
    weights = attention_logits(queries, keys, scaling, first_position, softcap).softmax(-1)
    return weights[..., :prompt_tokens]


def accumulated_attention(
    queries: Tensor, keys: Tensor, scaling: float, block: int | None = None, softcap: float | None = None
) -> Tensor:
    """Attention that rows get from the last `Q` tokens, summed over their queries.

    The softmax runs over the keys up to each query. At most `block` queries are computed at once, against the keys
    up to the last of them: memory grows with K, not with Q * K.

    Args:
        queries: (B, H, Q, D), after RoPE.
        keys: (B, H_kv, K, D), after RoPE; the last `Q` are the queries' own.
        scaling: factor on the dot product.
        block: queries at once; `QUERY_BLOCK` by default.
        softcap: bound of the logits; None = no bound.

    Returns:
        (B, H_kv, G, K) float32.
    """
    batch, heads, tokens, _ = queries.shape
    kv_heads, n_keys, step = keys.shape[1], keys.shape[2], block or QUERY_BLOCK
    before = n_keys - tokens  # keys without a query
    sizes = batch, kv_heads, heads // kv_heads, n_keys
    total = torch.zeros(sizes, dtype=torch.float32, device=keys.device)
    for first in range(before, n_keys, step):
        end = min(first + step, n_keys)
        asking = queries[:, :, first - before : end - before]
        logits = attention_logits(asking, keys[:, :, :end], scaling, first, softcap)
        total[..., :end] += logits.softmax(-1).sum(-2)
    return total


def output_norms(values: Tensor, weight: Tensor) -> Tensor:
    """How much each row's value can add to the hidden states: the L1 norm of `W_o v` (CriticalKV, arXiv 2502.03805).

    Returns:
        (B, H_kv, T) float32, the mean of `norms_by_head` over the query heads of a group.
    """
    return norms_by_head(values, weight, 1).mean(2)


def norms_by_head(values: Tensor, weight: Tensor, order: int) -> Tensor:
    """Norm of what each query head's output projection makes of each row's value.

    Args:
        values: (B, H_kv, T, D).
        weight: (hidden, H * D), the output projection of the layer.
        order: 1 or 2, of the norm.

    Returns:
        (B, H_kv, G, T) float32.
    """
    kv_heads, dim = values.shape[1], values.shape[3]
    by_head = weight.unflatten(1, (kv_heads, -1, dim))  # (hidden, H_kv, G, D)
    sizes = values.shape[0], kv_heads, by_head.shape[2], values.shape[2]
    norms = torch.zeros(sizes, dtype=torch.float32, device=values.device)
    for head in range(kv_heads):  # one at a time: (B, T, hidden) is large
        for at, projection in enumerate(by_head[:, head].unbind(1)):
            added = values[:, head].float() @ projection.float().T
            norms[:, head, at] = torch.linalg.vector_norm(added, ord=order, dim=-1)
    return norms


def merge_group(scores: Tensor, how: Aggregation = "mean") -> Tensor:
    """One score a KV head from its `G` query heads: (B, H_kv, G, T) -> (B, H_kv, T), higher = keep."""
    if how == "mean":
        return scores.mean(2)
    largest = scores.amax(2)
    return largest.maximum(largest.mean(-1, keepdim=True)) if how == "defensive" else largest
