"""Judge Q with a draft: the soft tokens score a second time, after the first words of the answer.

Judge Q evicts, a few tokens are written from the rows that it kept, and these and the soft tokens after them score the
complete rows. Like Lookahead Q-Cache (arXiv 2505.20334) it needs one small second pass; its draft comes from better
rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection, check_at_least
from judgeq.methods.base import LayerView, Method
from judgeq.methods.judge_q import JudgeQ
from judgeq.methods.look import Look
from judgeq.methods.scoring import GroupMerge, merge_group


@dataclass(frozen=True)
class JudgeQDraft(Method):
    """Scores by the mean of the draft's attention and of the soft tokens' after it.

    Attributes:
        draft: tokens that are written with Judge Q's rows at the same budget.
    """

    name = "judgeq+draft"
    title = "Judge Q + draft"
    summary = "Writes eight tokens, then asks a second time."
    look = Look("#b07d00", "10px,3px,2px,3px", "diamond")
    needs_soft_tokens = True
    needs_response = True
    selection: Selection = Selection(pool=7)
    draft: int = 8
    group: GroupMerge = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("JudgeQDraft", "draft", self.draft, 1)

    @property
    def writer(self) -> Method:
        return JudgeQ()

    @property
    def response_tokens(self) -> int:
        return self.draft

    def score(self, view: LayerView) -> Tensor:
        return merge_group((view.response_attention() + view.soft_attention()) / 2, self.group)
