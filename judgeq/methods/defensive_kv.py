"""DefensiveKV (arXiv 2510.13334): SnapKV's window, but the largest attention counts, which guards against the worst
case; no row is worth less than the mean of its head."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.methods.base import LayerView, Look
from judgeq.methods.scoring import Aggregation
from judgeq.methods.snapkv import SnapKV


@dataclass(frozen=True)
class DefensiveKV(SnapKV):
    """Scores by the largest attention that any query of the window pays, in any query head of a group.

    The floor is the mean over the rows that can be evicted. Its authors also let heads compete and weigh by values:
    `defensivekv:allocation=adakv:value_aware=true`.
    """

    name = "defensivekv"
    title = "DefensiveKV"
    summary = "Keeps what any of the last tokens attends to most."
    look = Look("#b5557a", "10px,3px,2px,3px", "square")
    group: Aggregation = "largest"

    def score(self, view: LayerView) -> Tensor:
        scores = super().score(view)
        evictable = scores[..., : max(1, view.prompt_tokens - self.selection.recent)]
        return scores.maximum(evictable.mean(-1, keepdim=True))
