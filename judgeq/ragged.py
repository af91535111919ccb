"""KV heads that keep different numbers of rows: flat storage, attention over it, and the cache layer that holds it.

The kept rows of all heads lie one behind the other, nothing is padded, and may be stored in few bits; tokens decoded
later go to a dense tail. Knows nothing of scores or budgets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from judgeq.errors import InputError
from judgeq.quantized import QuantizedRows

Head = tuple[Tensor, Tensor]
"""Keys and values (rows, D) of one KV head."""


@dataclass(frozen=True, eq=False)
class FrozenRows:
    """Rows of one layer and one prompt that later tokens attend to and never extend.

    Attributes:
        keys, values: (R, D), the rows of KV head 0, then those of head 1 and so on; `R` is the sum of `counts`.
        counts: rows of each of the H_kv heads.
    """

    keys: Tensor | QuantizedRows
    values: Tensor | QuantizedRows
    counts: tuple[int, ...]

    @classmethod
    def of_heads(cls, heads: Sequence[Head], bits: int | None = None) -> FrozenRows:
        """Store these rows, copied.

        Args:
            heads: keys and values of each KV head.
            bits: 8 or 4; None stores the rows as they are.
        """
        counts = tuple(len(keys) for keys, _ in heads)
        keys, values = (torch.cat(rows) for rows in zip(*heads, strict=True))
        if bits is None:
            return cls(keys, values, counts)
        return cls(QuantizedRows.by_channel(keys, counts, bits), QuantizedRows.by_row(values, bits), counts)

    @classmethod
    def pick(
        cls, keys: Tensor, values: Tensor, kept: Sequence[Tensor], bits: int | None = None
    ) -> FrozenRows:
        """Copy the kept rows out of complete ones.

        Args:
            keys, values: (1, H_kv, K, D).
            kept: for each KV head (rows,) int64.
            bits: see `of_heads`.
        """
        chosen = [(keys[0, head, rows], values[0, head, rows]) for head, rows in enumerate(kept)]
        return cls.of_heads(chosen, bits)

    def dense(self) -> tuple[Tensor, Tensor]:
        """Keys and values (R, D) in full precision; freshly computed where they are stored in few bits."""
        keys, values = (
            rows if isinstance(rows, Tensor) else rows.dense() for rows in (self.keys, self.values)
        )
        return keys, values

    def heads(self) -> list[Head]:
        """Keys and values of each head, see `dense`."""
        keys, values = (rows.split(self.counts) for rows in self.dense())
        return list(zip(keys, values, strict=True))

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is stored."""
        for rows in (self.keys, self.values):
            yield from (rows,) if isinstance(rows, Tensor) else rows.tensors()

    def attention(self, queries: Tensor, keys: Tensor, values: Tensor, scaling: float) -> Tensor:
        """Softmax attention over these rows, which every query sees, and over the tail, which is causal.

        Each part has its own softmax; their log-sum-exps say how much each counts, so that the result is exact
        (as in FlashAttention, arXiv 2205.14135).

        Args:
            queries: (1, H, S, D).
            keys, values: (1, H_kv, t, D), the tail; its last `S` rows are the queries' own.
            scaling: factor on the dot product.

        Returns:
            (1, S, H, D), as transformers' attention functions do.
        """
        heads, count, dim = queries.shape[1:]
        kv_heads, tail = keys.shape[1:3]
        grouped = queries.reshape(kv_heads, -1, dim)  # (H_kv, G * S, D)
        hidden = None
        if count > 1:
            hidden = torch.ones(count, tail, dtype=torch.bool, device=keys.device).triu(tail - count + 1)
            hidden = hidden.repeat(heads // kv_heads, 1)  # (G * S, t)
        late, late_mass = _part(grouped, keys[0], values[0], scaling, hidden)
        if len(set(self.counts)) == 1:
            keys_of, values_of = (rows.unflatten(0, (kv_heads, -1)) for rows in self.dense())
            early, early_mass = _part(grouped, keys_of, values_of, scaling)
        else:
            parts = [_part(asked, *head, scaling) for asked, head in zip(grouped, self.heads(), strict=True)]
            early, early_mass = (torch.stack(part) for part in zip(*parts, strict=True))
        merged = torch.lerp(late.float(), early.float(), torch.sigmoid(early_mass - late_mass))
        return merged.to(queries).reshape(1, heads, count, -1).transpose(1, 2).contiguous()


def _part(
    queries: Tensor, keys: Tensor, values: Tensor, scaling: float, hidden: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Attention over some of the rows: its output (..., Q, D), and the log of its mass (..., Q, 1) in float32."""
    logits = (queries @ keys.transpose(-1, -2)).float() * scaling
    if hidden is not None:
        logits = logits.masked_fill(hidden, float("-inf"))
    return logits.softmax(-1).to(values) @ values, logits.logsumexp(-1, keepdim=True)


class RaggedLayer(DynamicLayer):
    """A cache layer of frozen rows and a growing tail, `keys` and `values`: (1, H_kv, t, D), for one prompt.

    `update` returns the tail, with the frozen rows on the returned keys as `frozen_rows`: that is where the attention
    function finds them, so that plain `generate` works.
    """

    def __init__(self, frozen: FrozenRows, seen: int) -> None:
        """See `retain`."""
        super().__init__()
        self.retain(frozen, seen)

    def retain(self, frozen: FrozenRows, seen: int) -> None:
        """Start from these rows, without a tail.

        Args:
            frozen: rows that were kept.
            seen: tokens that have passed, at least as many as any head has rows.
        """
        heads = len(frozen.counts)
        keys, values = (rows.new_empty(1, heads, 0, rows.shape[-1]) for rows in (frozen.keys, frozen.values))
        self.lazy_initialization(keys, values)
        self.frozen: FrozenRows | None = frozen
        self.keys, self.values, self.seen = keys, values, seen

    def heads(self) -> list[Head]:
        """Rows of each head, the tail's behind the frozen ones."""
        tail = zip(self.keys[0], self.values[0], strict=True)
        if self.frozen is None:
            return list(tail)
        return [
            (torch.cat([keys, new_keys]), torch.cat([values, new_values]))
            for (keys, values), (new_keys, new_values) in zip(self.frozen.heads(), tail, strict=True)
        ]

    def hold(self, heads: Sequence[Head], seen: int) -> None:
        """Go on with these rows, frozen and stored as they are; copies them."""
        self.retain(FrozenRows.of_heads(heads), seen)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if self.frozen is not None and key_states.shape[0] != 1:
            raise InputError(
                f"Heads with budgets of their own hold one prompt and this batch has {key_states.shape[0]}: "
                "decode one by one, without beams"
            )
        self.seen += key_states.shape[-2]
        keys, values = super().update(key_states, value_states)
        if self.frozen is not None:
            keys = keys[:]  # the attribute stays off the stored tensor
            keys.frozen_rows = self.frozen
        return keys, values

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Those of a complete cache: this layer's attention needs no mask, and layers that keep all rows do."""
        return self.seen + query_length, 0

    def crop(self, tokens_to_remove: int) -> None:
        tail = self.keys.shape[-2] if self.is_initialized else 0
        if abs(tokens_to_remove) > tail:
            raise ValueError(
                f"crop({tokens_to_remove}) reaches into the prompt, whose rows are frozen: at most {tail} tokens can go"
            )
        super().crop(tokens_to_remove)
        self.seen -= abs(tokens_to_remove)

    def reset(self) -> None:
        """Empty again: from here on an ordinary layer without frozen rows."""
        super().reset()
        self.frozen, self.seen = None, 0
