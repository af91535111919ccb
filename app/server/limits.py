"""The limits of one request; whatever exceeds them is rejected. Knows nothing of Gradio or models."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.server.task import Task
from judgeq.config import check_budget, check_text
from judgeq.errors import InputError, JudgeqError
from judgeq.methods import METHODS, method_named

LARGEST_REQUEST = 64_000_000
"""Bytes; a paste of 10 MB, every character escaped, still reaches the limits and gets their error message."""
KEEP_STATE_S = 30 * 60
"""Seconds after which the answers of an idle page are dropped from memory."""
KEEP_FILES_S = 60 * 60
"""Seconds after which uploaded and made files are deleted."""


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        answer: longest answer in tokens.
        document, question, prefix: longest texts in characters; the prefix begins an answer.
        questions: most questions of a calibration.
        seconds: longest running time, from the moment a run's turn comes; the demo's is `--minutes` of `app/start.py`.
        waiting: runs that may wait for their turn, however long that takes.
    """

    answer: int = 256
    document: int = 1_000_000
    question: int = 10_000
    prefix: int = 1_000
    questions: int = 200
    seconds: float = 600.0
    waiting: int = 32

    def check(self, task: Task) -> None:
        """Check the types of a task's fields, and the limits.

        Raises:
            InputError: a wrong type, or beyond a limit.
        """
        self.check_texts(task.document, task.question, task.answer_prefix)
        if not isinstance(task.methods, tuple):
            raise InputError("The methods are not a list of names: give names such as full, judgeq and snapkv")
        for name in task.methods:
            check_method(name)
        if len(set(task.methods)) != len(task.methods):
            raise InputError("A method is named twice: name each one once")
        if check_budget(task.budget) > self.document:
            raise InputError(f"The budget is more than {self.document:,} rows: give a smaller one")
        longest = task.max_new_tokens
        if not isinstance(longest, int) or isinstance(longest, bool) or not 1 <= longest <= self.answer:
            raise InputError(
                f"The longest answer has to be a whole number of tokens from 1 to {self.answer:,}: give one of them"
            )
        for name, kinds in (("question_first", bool), ("truncate", bool | None)):
            if not isinstance(getattr(task, name), kinds):
                raise InputError(f"{name} is neither true nor false: give one of the two")

    def check_texts(self, document: object, question: object, answer_prefix: object = "") -> None:
        """Raise an `InputError` unless all are texts within the limits."""
        for name, value, most in (
            ("document", document, self.document),
            ("question", question, self.question),
            ("beginning of the answer", answer_prefix, self.prefix),
        ):
            if not isinstance(value, str):
                raise InputError(f"The {name} is not a text: give it as one string")
            if len(value) > most:
                raise InputError(
                    f"The {name} has {len(value):,} characters and at most {most:,} are taken: "
                    "keep the part that matters"
                )
            check_text(name, value)

    def too_late(self, less: str) -> JudgeqError:
        """The error of a run that was stopped by its time limit; `less` says what takes less time."""
        minutes = self.seconds / 60
        spoken = f"{minutes:g} minutes" if minutes != 1 else "1 minute"
        return JudgeqError(f"This took longer than {spoken} and was stopped: shorten the document, or {less}")


def check_method(name: object) -> str:
    """The name, if it is a registered method; else an `InputError`, which does not quote long names."""
    if not isinstance(name, str) or len(name) > 40:
        raise InputError(f"A method is named by a short text: choose one of {', '.join(METHODS)}")
    method_named(name)
    return name


def whole_number(value: object, what: str) -> int:
    """A number that a program or a forged page may have sent, as an int.

    Raises:
        InputError: not a finite whole number.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if number and value == int(value):  # type: ignore[call-overload]
        return int(value)  # type: ignore[call-overload]
    raise InputError(f"{what} is not a whole number: give one such as 64")
