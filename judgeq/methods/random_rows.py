"""Random rows: the floor. A method that does not beat it has learned nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Method


@dataclass(frozen=True)
class RandomRows(Method):
    """Uniform scores from a seed; every layer and head draws its own.

    Attributes:
        seed: the same seed keeps the same rows.
    """

    name = "random"
    selection: Selection = Selection(pool=1)
    seed: int = 0

    @property
    def queries_needed(self) -> int:
        return 0

    def score(self, view: LayerView) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + view.layer + view.draw * 1_000_003)
        shape = (*view.keys.shape[:2], view.prompt_tokens)
        return torch.rand(shape, generator=generator).to(view.keys.device)
