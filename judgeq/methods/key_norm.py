"""Key norms (arXiv 2406.11430): rows with short keys get much attention. Uses no queries at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method


@dataclass(frozen=True)
class KeyNorm(Method):
    """Scores by minus the L2 norm of the key, which RoPE does not change.

    In families that normalise their keys (Qwen3) norms differ little.
    """

    name = "keynorm"
    title = "Key norm"
    phrase = "the key norm"
    summary = "Keeps what has short keys."
    look = Look("#6f8a2a", "12px,4px", "pentagon")
    attention = False
    queries_needed = 0
    selection: Selection = Selection(pool=1)

    def score(self, view: LayerView) -> Tensor:
        keys = view.keys[:, :, : view.prompt_tokens]
        return -torch.linalg.vector_norm(keys, dim=-1, dtype=torch.promote_types(keys.dtype, torch.float32))
