"""StreamingLLM (arXiv 2309.17453): the first few rows and the most recent ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method


@dataclass(frozen=True)
class StreamingLLM(Method):
    """Scores by position alone: four sinks, then the later the better."""

    name = "streamingllm"
    title = "StreamingLLM"
    summary = "Keeps the beginning and the end."
    look = Look("#7d7d7d", "7px,3px", "x")
    attention = False
    idle = frozenset({"recent", "pool", "unit"})  # the later a row the better anyway
    queries_needed = 0
    selection: Selection = Selection(sinks=4, pool=1)

    def score(self, view: LayerView) -> Tensor:
        batch, heads = view.keys.shape[:2]
        positions = torch.arange(1, view.prompt_tokens + 1, device=view.keys.device, dtype=torch.float32)
        return (positions / view.prompt_tokens).expand(batch, heads, -1)
