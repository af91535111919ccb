"""Rows in 8 or 4 bits: asymmetric rounding in small groups, keys by channel and values by row (KIVI, arXiv 2402.02750).

Keys have a few channels that are large in every row, so rows of one head share a range channel by channel; values have
none. Groups never span two heads and need not be full, so heads may have any number of rows.
Which bits are offered: `judgeq.config.ROW_BITS`. Knows nothing of caches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.objects import brief

GROUP = 32
"""Numbers that share a range, at most; KIVI's."""


@dataclass(frozen=True, eq=False)
class QuantizedRows:
    """The concatenated rows (R, D) of some heads.

    Attributes:
        codes: (R, D) uint8; (R, D // 2) at 4 bits, two neighbouring channels in a byte.
        low, step: float16, the number of code 0 and the step between codes: (groups, D) where rows share a range, each
            channel its own; (R, groups) where channels of one row do.
        counts: rows of each head where rows share a range; None where channels do.
        bits: 8 or 4.
        dtype: of the rows before and after.
    """

    __repr__ = brief

    codes: Tensor
    low: Tensor
    step: Tensor
    counts: tuple[int, ...] | None
    bits: int
    dtype: torch.dtype

    @classmethod
    def by_channel(cls, rows: Tensor, counts: Sequence[int], bits: int) -> QuantizedRows:
        """For keys: up to `GROUP` rows of a head share a range, each channel its own.

        Args:
            rows: (R, D) floating point, D even.
            counts: rows of each head; their sum is R.
            bits: 8 or 4.
        """
        numbers, group = rows.float(), _groups(counts, rows.device)
        into = group[:, None].expand_as(rows)
        ends = numbers.new_zeros(sum(-(-count // GROUP) for count in counts), rows.shape[1])
        least, most = (ends.scatter_reduce(0, into, numbers, which, include_self=False) for which in ("amin", "amax"))
        low, step = _range(least, most, bits)
        codes = _codes(numbers, low[group], step[group], bits)
        return cls(_packed(codes, bits), low, step, tuple(counts), bits, rows.dtype)

    @classmethod
    def by_row(cls, rows: Tensor, bits: int) -> QuantizedRows:
        """For values: neighbouring channels of one row share a range, `GROUP` of them or what divides D.

        Args:
            rows: (R, D) floating point, D even.
            bits: 8 or 4.
        """
        grouped = rows.float().unflatten(1, (-1, math.gcd(rows.shape[1], GROUP)))  # (R, groups, channels)
        low, step = _range(grouped.amin(-1), grouped.amax(-1), bits)
        codes = _codes(grouped, low[..., None], step[..., None], bits).flatten(1)
        return cls(_packed(codes, bits), low, step, None, bits, rows.dtype)

    def dense(self) -> Tensor:
        """(R, D) in their original type, freshly computed; off by half a step at most, or by float16 rounding."""
        codes = _unpacked(self.codes, self.bits).float()
        if self.counts is not None:
            group = _groups(self.counts, codes.device)
            rows = torch.addcmul(self.low[group].float(), codes, self.step[group].float())
        else:
            grouped = codes.unflatten(1, (self.low.shape[1], -1))
            rows = torch.addcmul(self.low[..., None].float(), grouped, self.step[..., None].float()).flatten(1)
        return rows.to(self.dtype)

    @property
    def shape(self) -> tuple[int, int]:
        """(R, D)."""
        return self.codes.shape[0], self.codes.shape[1] * 8 // self.bits

    def new_empty(self, *shape: int) -> Tensor:
        """A tensor of the rows' type and device, as `Tensor.new_empty` gives one."""
        return self.codes.new_empty(shape, dtype=self.dtype)

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is stored."""
        yield from (self.codes, self.low, self.step)


def stored_bytes(rows: int, head_dim: int, bits: int) -> int:
    """Bytes of the keys and values of one head's rows, with their ranges: what `by_channel` and `by_row` come to."""
    codes = rows * head_dim * bits // 8
    ranges = -(-rows // GROUP) * head_dim + rows * head_dim // math.gcd(head_dim, GROUP)
    return 2 * codes + 4 * ranges


def _groups(counts: Sequence[int], device: torch.device) -> Tensor:
    """(R,) int64, the group of each row; computed anew, since storing it would cost more than it saves."""
    sizes = torch.tensor(counts, device=device)
    total = sum(counts)
    head = torch.repeat_interleave(torch.arange(len(counts), device=device), sizes, output_size=total)
    place = torch.arange(total, device=device) - (sizes.cumsum(0) - sizes)[head]
    full = -(-sizes // GROUP)
    return (full.cumsum(0) - full)[head] + place // GROUP


def _range(low: Tensor, high: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Least number and step in float16; the step reaches from the rounded least number, and is never 0."""
    low = low.half()
    step = (high - low.float()) / (2**bits - 1)
    return low, step.half().clamp(min=torch.finfo(torch.float16).tiny)


def _codes(rows: Tensor, low: Tensor, step: Tensor, bits: int) -> Tensor:
    return ((rows - low.float()) / step.float()).round().clamp(0, 2**bits - 1).to(torch.uint8)


def _packed(codes: Tensor, bits: int) -> Tensor:
    return codes if bits == 8 else codes[:, ::2] | codes[:, 1::2] << 4


def _unpacked(codes: Tensor, bits: int) -> Tensor:
    return codes if bits == 8 else torch.stack([codes & 15, codes >> 4], -1).flatten(1)
