"""Learned budgets: which layers and KV heads deserve more rows, measured once at training time.

Knows nothing of scores or prompts: a selection that needs every layer's scores could not evict layer by layer, a table
that is known beforehand can.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from judgeq.errors import InputError
from judgeq.objects import brief

BUDGETS_NAME = "profile_budgets"
SHARES_NAME = "profile_shares"


@dataclass(frozen=True, eq=False)
class BudgetProfile:
    """How a budget is split over layers and KV heads.

    Attributes:
        budgets: (P,) int64, ascending, the rows per KV head that the shares were measured at.
        shares: (P, L, H_kv) float32, what a head gets of the uniform budget; positive, mean 1 at each budget. Layers
            with a sliding window, where nothing is evicted, are not among the `L`.
    """

    __repr__ = brief

    budgets: Tensor
    shares: Tensor

    def __post_init__(self) -> None:
        budgets, shares = self.budgets, self.shares
        if budgets.dim() != 1 or not len(budgets) or budgets.dtype != torch.int64:
            raise InputError(
                f"BudgetProfile.budgets has shape {tuple(budgets.shape)} and type {budgets.dtype}: "
                "give at least one budget as int64"
            )
        if int(budgets[0]) < 1 or not bool((budgets.diff() > 0).all()):
            raise InputError(f"BudgetProfile.budgets is {budgets.tolist()}: give ascending rows from 1 on")
        if shares.dim() != 3 or len(shares) != len(budgets) or not shares.numel():
            raise InputError(
                f"BudgetProfile.shares has shape {tuple(shares.shape)}: give (budgets, layers, KV heads), "
                f"with {len(budgets)} budgets"
            )
        if not (shares.is_floating_point() and bool(shares.isfinite().all()) and bool((shares > 0).all())):
            raise InputError("BudgetProfile.shares must be positive finite numbers")
        means = shares.double().mean((1, 2))
        if not torch.allclose(means, torch.ones_like(means), atol=1e-3):
            raise InputError(f"BudgetProfile.shares has the means {means.tolist()}: scale each budget's to a mean of 1")

    def check(self, layers: int, kv_heads: int) -> None:
        """Refuse, with an `InputError`, a model with other numbers of layers or KV heads."""
        if self.shares.shape[1:] != (layers, kv_heads):
            raise InputError(
                f"The profile has shares for {tuple(self.shares.shape[1:])} layers and KV heads and the model has "
                f"{(layers, kv_heads)}: it belongs to another model"
            )

    def rows(self, budget: int, tokens: int) -> Tensor:
        """Rows of each head: the shares between the two nearest budgets, times `budget`, made whole.

        No head gets less than 1 row or more than the prompt has; what that frees goes to the others in proportion.
        Equal remainders are rounded up in the order of layers and heads, so the table is deterministic.

        Args:
            budget: mean rows per KV head and layer, at least 1; `tokens` or more gives every head all rows.
            tokens: `T`.

        Returns:
            (L, H_kv) int64 in [1, tokens] on the CPU; its sum is exactly `L * H_kv * min(budget, tokens)`.
        """
        shares = self._shares_at(budget)
        total = shares.numel() * min(budget, tokens)
        wanted = (shares * _scale(shares, total, tokens)).clamp(1, tokens)
        rows = wanted.floor()
        missing = total - int(rows.sum())
        remainder = (wanted - rows).masked_fill(rows >= tokens, -1).flatten()
        rows.view(-1)[remainder.argsort(descending=True, stable=True)[:missing]] += 1
        return rows.long()

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name."""
        return {BUDGETS_NAME: self.budgets.contiguous(), SHARES_NAME: self.shares.float().contiguous()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self | None:
        """Read what `tensors` gives, from among others; None where there is no profile.

        Raises:
            InputError: half a profile, or one that means nothing.
        """
        missing = [name for name in (BUDGETS_NAME, SHARES_NAME) if name not in tensors]
        if len(missing) == 1:
            raise InputError(f"The profile is incomplete: {missing[0]} is missing")
        return None if missing else cls(tensors[BUDGETS_NAME], tensors[SHARES_NAME].float())

    def _shares_at(self, budget: int) -> Tensor:
        """(L, H_kv) float64, linear in the logarithm of the budget; outside, those of the nearest one."""
        known = self.budgets.tolist()
        shares = self.shares.double().cpu()
        above = next((at for at, other in enumerate(known) if other >= budget), len(known) - 1)
        below = max(above - 1, 0)
        if above == below or budget >= known[above]:
            return shares[above]
        if budget <= known[below]:
            return shares[below]
        weight = math.log(budget / known[below]) / math.log(known[above] / known[below])
        return torch.lerp(shares[below], shares[above], weight)


def _scale(shares: Tensor, total: int, tokens: int) -> float:
    """The largest factor at which the shares, clipped to [1, tokens], sum to no more than `total`: by bisection."""
    low, high = 0.0, tokens / float(shares.min())
    for _ in range(100):
        middle = (low + high) / 2
        if float((shares * middle).clamp(1, tokens).sum()) <= total:
            low = middle
        else:
            high = middle
    return low
