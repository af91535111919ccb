"""Answers to one question with all that is needed to show them elsewhere and to repeat them.

Needs neither torch nor a model. Writes nothing to the disk: every form is a string, bytes or plain values.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from judgeq._version import __version__
from judgeq.config import check_budget
from judgeq.errors import InputError
from judgeq.objects import brief
from judgeq.values import settle

if TYPE_CHECKING:
    from judgeq.inference.answers import Answer

LIBRARIES = ("torch", "transformers", "bitsandbytes")
BEST_TOLD = ("judgeq", "judgeq+draft")
"""Methods whose map is shown first, where there are several."""


@dataclass(frozen=True)
class Settings:
    """How a comparison was asked for; names and values as in `judgeq.load` and `judgeq.read`.

    Attributes:
        model, quantization: as in `judgeq.load`.
        tokens: folder or Hub id of the soft tokens; None = those shipped for the model.
        file: where the document lies, or the name that it should be saved under.
    """

    model: str
    methods: tuple[str, ...]
    budget: int | float
    question_first: bool = False
    truncate: bool = False
    max_new_tokens: int = 64
    quantization: str | None = None
    tokens: str | None = None
    file: str = "document.txt"

    def __post_init__(self) -> None:
        settle(self)
        object.__setattr__(self, "budget", check_budget(self.budget))


@dataclass(frozen=True)
class Keepsake:
    """One question, its answers and how they came about.

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
    def told(self) -> int:
        """Index of the answer whose map is shown first: Judge Q, else the first one that forgets something."""
        names = [answer.method for answer in self.answers]
        for name in BEST_TOLD:
            if name in names:
                return names.index(name)
        return next((index for index, name in enumerate(names) if name != "full"), 0)

    @property
    def versions(self) -> dict[str, str]:
        """Of this library, of Python and of the libraries that compute."""
        found = {"judgeq": __version__, "python": platform.python_version()}
        for name in LIBRARIES:
            with suppress(metadata.PackageNotFoundError):
                found[name] = metadata.version(name)
        return found

    def to_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Plain JSON values; the format is described in `judgeq.export.exchange`."""
        from judgeq.export import exchange

        return exchange.to_json(self, scores)

    def to_csv(self) -> str:
        """One line a method and word; see `judgeq.export.words`."""
        from judgeq.export import words

        return words.to_csv(self)

    def to_python(self) -> str:
        """The lines of Python that repeat the comparison."""
        from judgeq.export import lines

        return lines.to_python(self.question, self.settings)

    def to_html(self) -> str:
        """A page of its own without scripts, which opens without a network and asks nobody for anything."""
        from judgeq.export import page

        return page.to_html(self)

    def to_png(self) -> bytes:
        """A picture of 1200 x 630 for others to see at a glance."""
        from judgeq.export import picture

        return picture.to_png(self)
