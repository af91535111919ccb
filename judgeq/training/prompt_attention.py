"""Attention of soft tokens to prompts whose rows stay as they are: gradients are those of the soft tokens alone.

SDPA computes gradients for every row of a prompt, and none of these is used. Here gradients end at the soft tokens' own
rows, and the prompts of a pass may lie apart, without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from judgeq.training.examples import PromptRows


class PromptLayer(DynamicLayer):
    """A cache layer of prompts that later tokens attend to but never extend, with attention of its own.

    Attributes:
        paid: of each part (B, H_kv, G, T) float32, the mean attention of the last pass's tokens to the prompt; carries
            gradients if the pass does.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Tensor, Tensor]],
        padding: Sequence[Tensor | None],
        offsets: Tensor | None,
    ) -> None:
        """The prompts of a pass, in its order.

        Args:
            parts: keys and values of some prompts, (B, H_kv, T, D).
            padding: of each part (B,) int64, rows before each prompt that belong to none; None = no such rows.
            offsets: (all prompts, H, S, D), added to the queries where `paid` is recorded; None = none.
        """
        super().__init__()
        self.lazy_initialization(*parts[0])
        self.parts, self.padding, self.offsets = parts, padding, offsets
        self.paid: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        key_states.own_attention = self  # type: ignore[attr-defined]
        return key_states, value_states

    def attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """See `OwnAttention`; padding is hidden without a mask."""
        count, sizes = keys.shape[2], [len(rows) for rows, _ in self.parts]
        scoring = queries if self.offsets is None else queries + self.offsets.to(queries)
        outputs, self.paid = [], []
        for (rows, row_values), padding, own, shifted, own_keys, own_values in zip(
            self.parts,
            self.padding,
            *(each.split(sizes) for each in (queries, scoring, keys, values)),
            strict=True,
        ):
            weights = _weights(own, rows, own_keys, scaling, softcap, padding)
            output = _Product.apply(weights, row_values, own_values, False)  # (B, H_kv, G * S, D)
            outputs.append(output.unflatten(2, (-1, count)).flatten(1, 2).transpose(1, 2))
            if self.offsets is not None:
                weights = _weights(shifted, rows, own_keys, scaling, softcap, padding)
            paid = weights.unflatten(2, (-1, count)).mean(-2, dtype=torch.float32)
            self.paid.append(paid[..., : rows.shape[2]])
        return torch.cat(outputs)

    def get_seq_length(self) -> int:
        return max(keys.shape[2] for keys, _ in self.parts)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Sizes for which no mask is made: the layer's own attention needs none."""
        return query_length, 0


def prompt_cache(rows: Sequence[PromptRows], offsets: Tensor | None) -> DynamicCache:
    """The prompts of a pass as one cache; layers with a sliding window are those of the only part.

    Args:
        offsets: (L, all prompts, H, S, D), see `PromptLayer`.
    """
    cache, padding = DynamicCache(), [part.padding for part in rows]
    by_layer = [None] * len(rows[0].cache.layers) if offsets is None else offsets.unbind()
    cache.layers = [
        layer
        if layer.is_sliding
        else PromptLayer(
            [(part.cache.layers[at].keys, part.cache.layers[at].values) for part in rows],
            padding,
            each,
        )
        for at, (layer, each) in enumerate(zip(rows[0].cache.layers, by_layer, strict=True))
    ]
    return cache


class _Product(torch.autograd.Function):
    """Product of (B, H_kv, Q, T + S) with a prompt's rows (B, H_kv, T, D) and own ones (B, H_kv, S, D), or of
    (B, H_kv, Q, D) with all of them transposed. The prompt's rows get no gradient."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, rows: Tensor, own: Tensor, transposed: bool) -> Tensor:
        both = torch.cat([rows, own], 2)
        ctx.save_for_backward(left, both)
        ctx.transposed, ctx.first = transposed, rows.shape[2]
        return left @ (both.mT if transposed else both)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (left, both) = gradients, ctx.saved_tensors
        if ctx.transposed:
            return gradient @ both, None, gradient[..., ctx.first :].mT @ left, None
        return gradient @ both.mT, None, left[..., ctx.first :].mT @ gradient, None


def _weights(
    queries: Tensor,
    rows: Tensor,
    own_keys: Tensor,
    scaling: float,
    softcap: float | None,
    padding: Tensor | None,
) -> Tensor:
    """What queries (B, H, S, D) pay to a prompt's rows and to each other: (B, H_kv, G * S, T + S)."""
    kv_heads, count = own_keys.shape[1:3]
    grouped = (queries * scaling).unflatten(1, (kv_heads, -1)).flatten(2, 3)  # (B, H_kv, G * S, D)
    logits = _Product.apply(grouped, rows, own_keys, True)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    hidden = logits.detach()  # what is hidden has no weight, and so no gradient
    later = torch.ones(count, count, dtype=torch.bool, device=logits.device).triu(1)
    hidden[..., rows.shape[2] :].masked_fill_(later.repeat(grouped.shape[2] // count, 1), float("-inf"))
    if padding is not None:
        before = torch.arange(hidden.shape[-1], device=rows.device) < padding[:, None]
        hidden.masked_fill_(before[:, None, None], float("-inf"))
    return logits.softmax(-1)
