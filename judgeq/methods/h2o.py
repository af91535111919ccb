"""H2O, the heavy-hitter oracle (arXiv 2306.14048): attention summed over all queries of the prompt."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method
from judgeq.methods.scoring import GroupMerge, merge_group


@dataclass(frozen=True)
class H2O(Method):
    """Scores by the attention that a row has got so far; the recent rows are kept beside the heavy hitters.

    The paper keeps as many recent rows as heavy hitters, without pooling; 32 is the recent window of all baselines in
    Judge Q's comparison. When rows are evicted during decoding, earlier sums still count.

    Attributes:
        average: divide by the number of queries that could see the row, so that early rows have no head start
            (kvpress' `ObservedAttentionPress`).
    """

    name = "h2o"
    title = "H2O"
    summary = "Keeps what all tokens together attended to."
    look = Look("#c24a4a", "5px,2px,2px,2px,2px,2px", "diamond")
    selection: Selection = Selection(recent=32, pool=1)
    average: bool = False
    group: GroupMerge = "mean"

    def score(self, view: LayerView) -> Tensor:
        scores = merge_group(view.accumulated_attention(), self.group)
        ages = view.row_ages
        if ages is None:
            ages = torch.arange(view.prompt_tokens, 0, -1, device=scores.device)
        if view.previous_scores is not None:
            counted = (ages - view.prompt_queries).clamp(min=0) if self.average else 1
            scores = scores + view.previous_scores * counted
        return scores / ages if self.average else scores
