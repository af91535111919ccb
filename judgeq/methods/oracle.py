"""Oracle: attention of the answer that the model really gives with the full cache.

Needs a second pass over that answer (`judgeq.inference.lookahead`), so it cannot be deployed; it is the upper bound of
every method that scores rows by attention.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method
from judgeq.methods.scoring import Aggregation, merge_group


@dataclass(frozen=True)
class Oracle(Method):
    """Scores by the mean attention of the full cache's own answer."""

    name = "oracle"
    title = "Oracle"
    phrase = "the oracle"
    summary = "Keeps what the full answer attended to."
    look = Look("#c85393", "10px,3px,2px,3px", "triangle-down")
    needs_response = True
    selection: Selection = Selection(pool=7)
    group: Aggregation = "mean"

    def score(self, view: LayerView) -> Tensor:
        return merge_group(view.response_attention(self.group), self.group)
