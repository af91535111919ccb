"""How a comparison was made."""

from __future__ import annotations

from dataclasses import dataclass

from judgeq.config import check_budget
from judgeq.values import settle


@dataclass(frozen=True)
class Settings:
    """How a comparison was made; names and values as in `judgeq.load` and `judgeq.read`.

    Attributes:
        model, quantization, dtype: as in `judgeq.load`.
        tokens: folder or Hub id of the soft tokens; None = those shipped for the model.
        file: where the document is stored, or the name that it should be saved under.
    """

    model: str
    methods: tuple[str, ...]
    budget: int | float
    question_first: bool = False
    truncate: bool = False
    max_new_tokens: int = 64
    quantization: str | None = None
    dtype: str | None = None
    tokens: str | None = None
    file: str = "document.txt"

    def __post_init__(self) -> None:
        settle(self)
        object.__setattr__(self, "budget", check_budget(self.budget))
