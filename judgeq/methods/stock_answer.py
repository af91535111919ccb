"""Stock answer: a judge for any model at once. The words of a general answer ask in place of trained soft tokens.

They follow the prompt as soft tokens do, with the model's own embeddings, so nothing is trained and there is no file.
What an answer needs is what one of these words or numbers looks for, so the largest attention counts, as in DefensiveKV
(arXiv 2510.13334), without its floor: below the mean of a head it would leave the choice to the rows' places.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.methods.base import LayerView, Look, Method
from judgeq.methods.scoring import Aggregation, merge_group

GENERAL = "The answer is in the text: the name, the number and the date of it are 1 2 3 4 5 6 7 8 9 0."


@dataclass(frozen=True)
class StockAnswer(Method):
    """Scores by the largest attention that any token of a ready-made answer pays, in any query head of a group.

    Attributes:
        text: that answer, as the model's tokenizer splits it.
    """

    name = "stockanswer"
    title = "Stock answer"
    phrase = "the stock answer"
    summary = "Keeps what the words of a ready-made answer attend to; nothing is trained."
    look = Look("#0f8a9c", "5px,2px,2px,2px,2px,2px", "circle")
    queries_needed = 0
    selection: Selection = Selection(pool=7)
    group: Aggregation = "largest"
    text: str = GENERAL

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.text.strip():
            raise InputError("StockAnswer.text is empty: give the words that ask, or leave it out")

    @property
    def appended_text(self) -> str:
        return self.text

    def score(self, view: LayerView) -> Tensor:
        return merge_group(view.soft_attention(self.group), self.group)
