"""Judge Q with a draft: the soft tokens score a second time, after the first words of the answer.

Judge Q evicts, a few tokens are written from the rows that it kept, and these and the soft tokens after them score the
complete rows. Like Lookahead Q-Cache (arXiv 2505.20334) it needs one small second pass; its draft comes from better
rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import DraftMethod, LayerView, Look, Method
from judgeq.methods.judge_q import JudgeQ
from judgeq.methods.scoring import LARGEST, Aggregation, merge_group


@dataclass(frozen=True)
class JudgeQDraft(DraftMethod):
    """Scores by the mean attention of a draft, written with Judge Q's rows at the same budget, and of soft tokens."""

    name = "judgeq+draft"
    title = "Judge Q + draft"
    phrase = "Judge Q with a draft"
    summary = "Writes eight tokens, then asks a second time."
    look = Look("#b07d00", "10px,3px,2px,3px", "diamond")
    needs_soft_tokens = True
    version = 3  # whole words, and half of the memory rows at 193 to 384 rows
    selection: Selection = Selection(pool=1, unit="word")
    group: Aggregation = "mean"

    @property
    def writer(self) -> Method:
        return JudgeQ()

    def score(self, view: LayerView) -> Tensor:
        draft, soft = view.response_attention(self.group), view.soft_attention(self.group)
        both = draft.maximum(soft) if self.group in LARGEST else (draft + soft) / 2
        return merge_group(both, self.group)
