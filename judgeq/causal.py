"""Attention of several tokens behind rows, however many rows a layer holds: no mask, no row repeated for query heads.

transformers builds one mask for all layers, from the first of them; layers that hold other numbers of rows need none.
Knows nothing of caches or models.
"""

from __future__ import annotations

import torch
from torch import Tensor

from judgeq.softcap import masked_attention

QUERY_ROWS = 768
"""Queries, counted for each head of a group, that one call attends with: it bounds the mask. From here on PyTorch's
kernel for CPUs works in large blocks."""


class CausalRows:
    """What a cache layer puts on the keys it returns as `frozen_rows`: the attention function finds it there."""

    @staticmethod
    def attention(
        queries: Tensor, keys: Tensor, values: Tensor, scaling: float, softcap: float | None = None
    ) -> Tensor:
        """Softmax attention of the last `S` tokens: to all rows before them, and causally to one another.

        The query heads of a group stand where positions usually do, block by block, each against the rows up to its
        own last token: memory grows with K, not with S * K.

        Args:
            queries: (B, H, S, D).
            keys, values: (B, H_kv, K, D); the last `S` rows are the queries' own.
            scaling: factor on the dot product.
            softcap: bound of the logits; None = no bound.

        Returns:
            (B, S, H, D), as transformers' attention functions do.
        """
        count, behind = queries.shape[2], keys.shape[2] - queries.shape[2]
        grouped = queries.unflatten(1, (keys.shape[1], -1))  # (B, H_kv, G, S, D)
        group = grouped.shape[2]
        step = max(1, QUERY_ROWS // group)
        blocks = []
        for first in range(0, count, step):
            asking = grouped[:, :, :, first : first + step]
            size = asking.shape[3]
            seen = behind + first + size
            visible = torch.ones(size, seen, dtype=torch.bool, device=keys.device).tril(seen - size)
            block = masked_attention(
                asking.flatten(2, 3),
                keys[:, :, :seen],
                values[:, :, :seen],
                visible.repeat(group, 1),
                scaling,
                softcap,
            )
            blocks.append(block.unflatten(2, (group, size)))
        return torch.cat(blocks, dim=3).flatten(1, 2).transpose(1, 2).contiguous()
