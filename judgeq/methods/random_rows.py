"""Random rows: the floor. A method must beat it to be worth anything."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Method
from judgeq.methods.look import Look
from judgeq.values import checked_seed


@dataclass(frozen=True)
class RandomRows(Method):
    """Uniform scores from a seed; every prompt, layer and head draws its own.

    Attributes:
        seed: of at most 64 bits; the same seed keeps the same rows of a prompt.
    """

    name = "random"
    title = "Random rows"
    phrase = "random choice"
    summary = "Keeps a random choice: the floor."
    look = Look("#96735e", "2px,3px", "cross")
    attention = False
    version = 2  # the prompt is part of the seed
    queries_needed = 0
    selection: Selection = Selection(pool=1)
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_seed("RandomRows.seed", self.seed)

    def score(self, view: LayerView) -> Tensor:
        batch, heads = view.keys.shape[:2]
        drawn = [self._draw(view, prompt, heads) for prompt in view.prompt_hashes or (0,) * batch]
        return torch.stack(drawn).to(view.keys.device)

    def _draw(self, view: LayerView, prompt: int, heads: int) -> Tensor:
        """(H_kv, T) for one prompt."""
        seed = random.Random(f"{self.seed}:{prompt}:{view.layer}:{view.draw_id}").getrandbits(63)
        return torch.rand(heads, view.prompt_tokens, generator=torch.Generator().manual_seed(seed))
