"""Answers to one question, how they were made, and every form in which they are taken along.

Nothing is written to the disk: every form is a string, bytes or plain values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from judgeq._version import versions
from judgeq.config import check_budget
from judgeq.errors import InputError
from judgeq.export import page, picture, python_snippet, table
from judgeq.objects import brief
from judgeq.values import settle

if TYPE_CHECKING:
    from judgeq.inference.answers import Answer

FORMAT = "judgeq.inference.answers/1"
LIBRARIES = ("torch", "transformers", "bitsandbytes")
FEATURED = ("judgeq", "judgeq+draft")
"""Methods whose map is shown first, where there are several."""


@dataclass(frozen=True)
class Settings:
    """How a comparison was made; names and values as in `judgeq.load` and `judgeq.read`.

    Attributes:
        model, quantization, dtype: as in `judgeq.load`.
        tokens: folder or Hub id of the soft tokens; None = those shipped for the model.
        answer_prefix: what every answer continues; `Answer.text` is what comes after it.
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
    answer_prefix: str = ""
    file: str = "document.txt"

    def __post_init__(self) -> None:
        settle(self)
        object.__setattr__(self, "budget", check_budget(self.budget))


@dataclass(frozen=True)
class Comparison:
    """One question, its answers by several methods, and how they were made.

    Attributes:
        answers: in the order of the methods; at least one, all of one prompt.
        made: when, with a time zone.
    """

    __repr__ = brief

    question: str
    settings: Settings
    answers: Sequence[Answer] = field(hash=False)
    made: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        if not self.answers:
            raise InputError("There is no answer yet: ask something first")

    @property
    def featured(self) -> int:
        """Index of the answer whose map is shown first: Judge Q's, else the first one that evicts rows."""
        names = [answer.method for answer in self.answers]
        for name in FEATURED:
            if name in names:
                return names.index(name)
        return next((index for index, name in enumerate(names) if name != "full"), 0)

    @property
    def versions(self) -> dict[str, str]:
        """Of this library, of Python and of the libraries that compute."""
        return versions(LIBRARIES)

    def to_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Plain JSON values.

        `format`; `made`, ISO 8601 with a time zone; `versions`; `question`; `settings`; and `answers`, one per method:
        what `Answer.to_dict` gives, and `retention`, which `RetentionMap.from_json` reads. The document is in every
        `retention`.

        Args:
            scores: include the scores of each map.
        """
        return {
            "format": FORMAT,
            "made": self.made.isoformat(timespec="seconds"),
            "versions": self.versions,
            "question": self.question,
            "settings": asdict(self.settings),
            "answers": [
                {**answer.to_dict(), "retention": answer.retention.to_json(scores=scores)} for answer in self.answers
            ],
        }

    def to_csv(self) -> str:
        """A table with one line a method and word; see `judgeq.export.table`."""
        return table.to_csv(self.answers)

    def to_python(self) -> str:
        """The lines of Python that repeat the comparison."""
        return python_snippet.to_python(self.question, self.settings)

    def to_html(self) -> str:
        """A page of its own without scripts, which opens without a network and loads nothing."""
        return page.to_html(self)

    def to_png(self) -> bytes:
        """A picture of 1200 x 630 pixels."""
        return picture.to_png(self)
