"""SnapKV (arXiv 2404.14469): attention of the prompt's last queries, pooled; those last rows are always kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection, check_at_least
from judgeq.methods.base import LayerView, Look, Method
from judgeq.methods.scoring import Aggregation, merge_group


@dataclass(frozen=True)
class SnapKV(Method):
    """Scores by the mean attention of the observation window, which is kept inside the budget.

    Attributes:
        window: prompt queries that score, 32 in the paper's comparison.
    """

    name = "snapkv"
    title = "SnapKV"
    summary = "Keeps what the last tokens attend to."
    look = Look("#0c8f6d", "7px,3px", "square")
    selection: Selection = Selection(recent=32, pool=7)
    window: int = 32
    group: Aggregation = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(type(self).__name__, "window", self.window, 1)

    @property
    def queries_needed(self) -> int:
        return self.window

    def score(self, view: LayerView) -> Tensor:
        return merge_group(view.window_attention(self.window, self.group), self.group)
