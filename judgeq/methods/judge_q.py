"""Judge Q (arXiv 2509.10798): attention that trained soft tokens pay to the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method
from judgeq.methods.scoring import Aggregation, merge_group


@dataclass(frozen=True)
class JudgeQ(Method):
    """Scores by the mean attention of the soft tokens that follow the prompt."""

    name = "judgeq"
    title = "Judge Q"
    summary = "Keeps what its trained tokens ask for."
    look = Look("#c9660a", "solid", "circle")
    needs_soft_tokens = True
    version = 3  # whole words, and half of the memory rows at 193 to 384 rows
    queries_needed = 0
    selection: Selection = Selection(pool=1, unit="word")
    group: Aggregation = "mean"

    def score(self, view: LayerView) -> Tensor:
        return merge_group(view.soft_attention(self.group), self.group)
