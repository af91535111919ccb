"""Random rows: the floor. A method must beat it to be worth anything."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method
from judgeq.values import checked_seed


@dataclass(frozen=True)
class RandomRows(Method):
    """Uniform scores from a seed; every prompt, layer and head draws its own.

    Attributes:
        protect: while an answer is written, rows of the prompt stay and only those of the answer are drawn
            (arXiv 2603.09430). Give a budget larger than the prompt: else the prompt fills it.
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
    protect: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        checked_seed("RandomRows.seed", self.seed)

    @property
    def for_decoding(self) -> bool:
        return self.protect

    def score(self, view: LayerView) -> Tensor:
        batch, heads = view.keys.shape[:2]
        draws = [self._draw(view, prompt, heads) for prompt in view.prompt_hashes or (0,) * batch]
        drawn = torch.stack(draws).to(view.keys.device)
        if self.protect and view.row_ages is None:
            return drawn + 1  # what scores 1 or more later on is the prompt's
        if self.protect and view.previous_scores is not None:
            return torch.where(view.previous_scores >= 1, view.previous_scores, drawn)
        return drawn

    def _draw(self, view: LayerView, prompt: int, heads: int) -> Tensor:
        """(H_kv, T) for one prompt."""
        seed = random.Random(f"{self.seed}:{prompt}:{view.layer}:{view.draw_id}").getrandbits(63)
        return torch.rand(heads, view.prompt_tokens, dtype=torch.float32, generator=torch.Generator().manual_seed(seed))
