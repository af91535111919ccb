"""KV heads that keep different numbers of rows: flat storage, attention over it, and its cache layer.

The kept rows of all heads are concatenated without padding, and may be quantized (8 or 4 bits); tokens decoded
later are in a dense tail. Knows nothing of scores or budgets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from judgeq.attention.call import RowWeights
from judgeq.attention.causal import later_part
from judgeq.attention.softcap import hide, to_logits
from judgeq.cache.layers import Head, MemoryRows, RetainedLayer
from judgeq.cache.quantized import QuantizedRows
from judgeq.errors import InputError
from judgeq.objects import brief

MAX_FUSED_WORK = 6144
"""Queries of a KV head, times rows of all heads: up to here launching more operations costs more than
computing masked products (measured on two CPU cores with 3 and 8 heads)."""


@dataclass(frozen=True, eq=False)
class FrozenRows:
    """Rows of one layer and one prompt that later tokens attend to and never extend.

    Attributes:
        keys, values: (R, D), the rows of KV head 0, then those of head 1 and so on; `R` is the sum of `counts`.
        counts: rows of each of the H_kv heads.
    """

    __repr__ = brief

    keys: Tensor | QuantizedRows
    values: Tensor | QuantizedRows
    counts: tuple[int, ...]

    @classmethod
    def of_heads(cls, heads: Sequence[Head], bits: int | None = None, memory: MemoryRows | None = None) -> FrozenRows:
        """Store these rows, copied.

        Args:
            heads: keys and values of each KV head.
            bits: 8 or 4; None stores the rows as they are.
            memory: of a batch of 1, stored before the rows of each head.
        """
        if memory is not None:
            heads = [
                (torch.cat([memory[0][0, head], keys]), torch.cat([memory[1][0, head], values]))
                for head, (keys, values) in enumerate(heads)
            ]
        counts = tuple(len(keys) for keys, _ in heads)
        keys, values = (torch.cat(rows) for rows in zip(*heads, strict=True))
        if bits is None:
            return cls(keys, values, counts)
        return cls(QuantizedRows.by_channel(keys, counts, bits), QuantizedRows.by_row(values, bits), counts)

    @classmethod
    def pick(
        cls,
        keys: Tensor,
        values: Tensor,
        kept: Sequence[Tensor],
        bits: int | None = None,
        memory: MemoryRows | None = None,
    ) -> FrozenRows:
        """Copy the kept rows out of complete ones.

        Args:
            keys, values: (1, H_kv, K, D).
            kept: for each KV head (rows,) int64.
            bits, memory: see `of_heads`.
        """
        chosen = [(keys[0, head, rows], values[0, head, rows]) for head, rows in enumerate(kept)]
        return cls.of_heads(chosen, bits, memory)

    def dense(self) -> tuple[Tensor, Tensor]:
        """Keys and values (R, D) in full precision; dequantized on each call where they are quantized."""
        keys, values = (rows if isinstance(rows, Tensor) else rows.dense() for rows in (self.keys, self.values))
        return keys, values

    def heads(self) -> list[Head]:
        """Keys and values of each head, see `dense`."""
        keys, values = (rows.split(self.counts) for rows in self.dense())
        return list(zip(keys, values, strict=True))

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is stored."""
        for rows in (self.keys, self.values):
            yield from (rows,) if isinstance(rows, Tensor) else rows.tensors()

    def as_read(self) -> FrozenRows:
        """These rows in full precision: themselves, or a dequantized temporary copy."""
        return self if isinstance(self.keys, Tensor) else FrozenRows(*self.dense(), self.counts)

    @cached_property
    def _heads(self) -> list[tuple[Tensor, Tensor]]:
        """Keys (D, rows) and values (rows, D) of each head, views; only of rows `as_read`, which it keeps alive."""
        return [(keys.T, values) for keys, values in self.heads()]

    @cached_property
    def _ends(self) -> Tensor:
        """(H_kv + 1,) int32, the boundaries of the heads' rows, as `varlen_attn` takes them."""
        ends = torch.tensor([0, *self.counts], device=self.dense()[0].device).cumsum(0)
        return ends.to(torch.int32)

    @cached_property
    def _owners(self) -> Tensor:
        """(R,) int16, the head that each row belongs to."""
        counts = torch.tensor(self.counts, device=self.dense()[0].device)
        return torch.arange(len(self.counts), device=counts.device, dtype=torch.int16).repeat_interleave(counts)

    def attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """See `OwnAttention`: over these rows, which every query sees, and the tail of later `keys` and `values`."""
        heads, count, dim = queries.shape[1:]
        kv_heads, tail = keys.shape[1:3]
        grouped = (queries * scaling).reshape(kv_heads, -1, dim)  # (H_kv, G * S, D)
        late = to_logits(grouped @ keys[0].transpose(1, 2), 1.0, softcap)
        if mask is not None:
            of_tail = later_part(mask, tail, max(self.counts))
            late = hide(late, of_tail[0].expand(heads, -1, -1).reshape(kv_heads, -1, tail))
        elif count > 1:
            hidden = torch.ones(count, tail, dtype=torch.bool, device=keys.device).triu(tail - count + 1)
            late = late.masked_fill(hidden.repeat(heads // kv_heads, 1), float("-inf"))
        rows = self.as_read()
        kernel = varlen_kernel(grouped) if softcap is None else None
        if kernel is not None:
            output = rows._all_heads(kernel, grouped, late, values[0])
        else:
            output = rows._products(grouped, late, values[0], softcap)[0]
        return output.reshape(1, heads, count, -1).transpose(1, 2).contiguous()

    def weighed_attention(
        self, queries: Tensor, keys: Tensor, values: Tensor, scaling: float, softcap: float | None = None
    ) -> tuple[Tensor, RowWeights]:
        """See `WeighedAttention`."""
        heads, kv_heads = queries.shape[1], keys.shape[1]
        grouped = (queries * scaling).reshape(kv_heads, heads // kv_heads, -1)  # (H_kv, G, D)
        late = to_logits(grouped @ keys[0].transpose(1, 2), 1.0, softcap)
        output, weights = self.as_read()._products(grouped, late, values[0], softcap)
        if isinstance(weights, Tensor):
            rows = sum(self.counts)
            own, frozen = weights[..., rows:], weights[..., :rows].sum(0)
        else:
            parts = [each.split((rows, late.shape[-1]), -1) for each, rows in zip(weights, self.counts, strict=True)]
            own, frozen = (
                torch.stack([late for _, late in parts]),
                torch.cat([early for early, _ in parts], -1),
            )
        return output.reshape(1, 1, heads, -1), RowWeights(own, frozen)

    def _products(
        self, queries: Tensor, late: Tensor, values: Tensor, softcap: float | None
    ) -> tuple[Tensor, Tensor | list[Tensor]]:
        """Attention without a kernel of its own, in the way that is quicker for its size.

        Args:
            queries: (H_kv, Q, D), scaled.
            late: (H_kv, Q, t), the logits of the tail.
            values: (H_kv, t, D), the tail's.
            softcap: bound of the logits.

        Returns:
            (H_kv, Q, D), and float32 weights: for each KV head (Q, rows + t), its frozen rows and the tail, or
            (H_kv, Q, R + t) with 0 for rows of other heads.
        """
        few = queries.shape[1] * sum(self.counts) <= MAX_FUSED_WORK
        return (self._together if few else self._each_head)(queries, late, values, softcap)

    def _each_head(
        self, queries: Tensor, late: Tensor, values: Tensor, softcap: float | None
    ) -> tuple[Tensor, list[Tensor]]:
        """One softmax a head, over both parts, in few operations: launching them bounds a small model's step.

        Arguments and results as in `_products`.
        """
        outputs, weights = [], []
        parts = zip(self._heads, queries.unbind(), late.unbind(), values.unbind(), strict=True)
        for (early_keys, early_values), asked, own, late_values in parts:
            logits = torch.cat((to_logits(asked @ early_keys, 1.0, softcap), own), -1)
            weights.append(logits.softmax(-1))
            to_early, to_late = weights[-1].to(values).split((len(early_values), len(late_values)), -1)
            outputs.append(torch.addmm(to_early @ early_values, to_late, late_values))
        return torch.stack(outputs), weights

    def _together(self, queries: Tensor, late: Tensor, values: Tensor, softcap: float | None) -> tuple[Tensor, Tensor]:
        """`_each_head` in a third of the operations: over the rows of all heads, those of other heads masked."""
        kv_heads, count, dim = queries.shape
        early_keys, early_values = self.dense()
        rows = len(early_keys)
        early = to_logits(queries.reshape(-1, dim) @ early_keys.T, 1.0, softcap).view(kv_heads, count, rows)
        others = self._owners != torch.arange(kv_heads, device=late.device)[:, None]
        logits = torch.cat((early.masked_fill(others[:, None], float("-inf")), late), -1)
        weights = logits.softmax(-1)
        to_early, to_late = weights.to(values).split((rows, late.shape[-1]), -1)
        seen = (to_early.reshape(-1, rows) @ early_values).view(kv_heads, count, dim)
        return torch.baddbmm(seen, to_late, values), weights

    def _all_heads(self, kernel: VarlenKernel, queries: Tensor, late: Tensor, values: Tensor) -> Tensor:
        """`_each_head` in one call for the frozen rows of all heads.

        Each part has its own softmax; their log-sum-exps say how much each counts, so that the result is exact (as in
        FlashAttention, arXiv 2205.14135).
        """
        kv_heads, count, dim = queries.shape
        asked = torch.arange(kv_heads + 1, dtype=torch.int32, device=queries.device) * count
        flat = queries.reshape(-1, 1, dim)  # a sequence for each head
        keys, seen = (rows[:, None] for rows in self.dense())
        early, early_mass = kernel(flat, keys, seen, asked, self._ends, count, max(self.counts))
        late_mass = late.logsumexp(-1, keepdim=True)  # (H_kv, Q, 1)
        share = torch.sigmoid(early_mass.reshape(late_mass.shape) - late_mass)
        own = (late.softmax(-1).to(values) @ values).float()
        return torch.lerp(own, early.reshape(own.shape).float(), share).to(queries)


VarlenKernel = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int, int], tuple[Tensor, Tensor]]
"""Attention of concatenated sequences, each to all of its own rows.

Takes scaled queries (sum of Q, 1, D), keys and values (sum of rows, 1, D), the boundaries of the sequences among
queries and among rows, (sequences + 1,) int32, and the longest of both; returns outputs like the queries, and the
log-sum-exp of each query's logits.
"""


def varlen_kernel(queries: Tensor) -> VarlenKernel | None:
    """PyTorch's kernel for these queries; None if there is none: on the CPU, in float32, with an older PyTorch."""
    if not queries.is_cuda or queries.dtype not in (torch.float16, torch.bfloat16):
        return None
    return _flash_kernel()


@cache
def _flash_kernel() -> VarlenKernel | None:
    try:
        from torch.nn.attention.varlen import AuxRequest, varlen_attn
    except ImportError:
        return None
    if "scale" not in signature(varlen_attn).parameters:
        return None
    kernel: Any = partial(varlen_attn, return_aux=AuxRequest(lse=True), scale=1.0)
    return kernel


class RaggedLayer(RetainedLayer):
    """A cache layer of frozen rows and a growing tail, `keys` and `values`: (1, H_kv, t, D), for one prompt.

    `update` returns the tail, with the frozen rows as attribute `own_attention` of the returned keys, where the
    attention function finds them: plain `generate` works.

    Attributes:
        frozen: rows that were kept; None after `reset`, which leaves an ordinary layer.
    """

    frozen: FrozenRows | None

    def __init__(self, frozen: FrozenRows, seen: int) -> None:
        """`seen`: tokens that have been read, at least as many as any head has rows."""
        super().__init__()
        heads = len(frozen.counts)
        self.set_rows(*(rows.new_empty(1, heads, 0, rows.shape[-1]) for rows in (frozen.keys, frozen.values)))
        self.frozen, self.seen = frozen, seen

    def heads(self) -> list[Head]:
        """Rows of each head, the tail's after the frozen ones."""
        tail = super().heads()
        if self.frozen is None:
            return tail
        return [
            (torch.cat([keys, new_keys]), torch.cat([values, new_values]))
            for (keys, values), (new_keys, new_values) in zip(self.frozen.heads(), tail, strict=True)
        ]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if self.frozen is not None and key_states.shape[0] != 1:
            raise InputError(
                f"Heads with budgets of their own store one prompt and this batch has {key_states.shape[0]}: "
                "decode one by one, without beams"
            )
        keys, values = super().update(key_states, value_states)
        if self.frozen is not None:
            keys = keys[:]  # so that the stored tensor does not carry the attribute
            keys.own_attention = self.frozen  # type: ignore[attr-defined]
        return keys, values

    def crop(self, tokens_to_remove: int) -> None:
        tail = self.keys.shape[-2] if self.is_initialized else 0
        if abs(tokens_to_remove) > tail:
            raise ValueError(
                f"crop({tokens_to_remove}) reaches into the prompt, whose rows are frozen: at most {tail} tokens can go"
            )
        super().crop(tokens_to_remove)

    def reset(self) -> None:
        super().reset()
        self.frozen = None
