"""Lookahead Q-Cache (arXiv 2505.20334): a cheap draft of the answer's beginning scores instead of the answer.

SnapKV evicts first and a few tokens are written from the rows that it kept. Their queries then score the complete rows,
which must be stored until the draft is written: one small second pass, like the oracle's.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import DraftMethod, LayerView, Look, Method
from judgeq.methods.scoring import Aggregation, merge_group
from judgeq.methods.snapkv import SnapKV


@dataclass(frozen=True)
class LAQ(DraftMethod):
    """Scores by the mean attention of a draft that is written with SnapKV's rows at the same budget."""

    name = "laq"
    title = "Lookahead Q-Cache"
    summary = "Drafts eight tokens, keeps what they attend to."
    look = Look("#5f74d8", "12px,4px", "star")
    selection: Selection = Selection(recent=32, pool=7)
    group: Aggregation = "mean"

    @property
    def writer(self) -> Method:
        return SnapKV()

    def score(self, view: LayerView) -> Tensor:
        return merge_group(view.response_attention(self.group), self.group)
