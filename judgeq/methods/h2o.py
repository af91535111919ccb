"""H2O, the heavy-hitter oracle (arXiv 2306.14048): attention summed over all queries of the prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Method
from judgeq.scoring import GroupMerge, merge_group


@dataclass(frozen=True)
class H2O(Method):
    """Scores by the attention that a row has got so far; the recent rows stay beside the heavy hitters.

    The paper keeps as many recent rows as heavy hitters, without pooling; 32 is the recent window of all baselines in
    Judge Q's comparison.

    Attributes:
        average: divide by the number of queries that could see the row, so that early rows have no head start
            (kvpress' `ObservedAttentionPress`).
    """

    name = "h2o"
    selection: Selection = Selection(recent=32, pool=1)
    average: bool = False
    group: GroupMerge = "mean"

    @property
    def prompt_queries(self) -> None:
        return None

    def score(self, view: LayerView) -> Tensor:
        scores = merge_group(view.accumulated_attention(), self.group)
        if not self.average:
            return scores
        return scores / torch.arange(view.prompt_tokens, 0, -1, device=scores.device)
