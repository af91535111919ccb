"""One sweep over budgets, from the click to its last point, run like any other task. Knows nothing of Gradio."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from app.server.host import ModelHost
from app.server.run import Run
from app.server.task import Task
from judgeq.config import Budget
from judgeq.inference.spans import Span
from judgeq.models.language_model import LanguageModel
from judgeq.sweeping import BUDGETS, SweepPoint, sweep


@dataclass(frozen=True)
class SweepTask(Task):
    """A sweep to measure; `budget`, pins and `expected` are not used.

    Attributes:
        budgets: see `judgeq.sweep`.
        span: characters of the document whose survival is drawn too.
    """

    methods: tuple[str, ...] = ("judgeq", "snapkv")
    budgets: tuple[Budget, ...] = BUDGETS
    span: Span | None = None


class SweepRun(Run[SweepTask]):
    """A sweep in its own thread; it waits, stops and fails as a `Run` does, and has points instead of answers.

    Attributes:
        points: measured so far.
    """

    REPORTED: ClassVar[tuple[str, ...]] = ("phase", "points")

    def __init__(self, task: SweepTask, host: ModelHost) -> None:
        super().__init__(task, host)
        self.points: list[SweepPoint] = []

    @property
    def expected_points(self) -> int:
        """How many there will be."""
        return len(self.task.budgets) * len(self.task.methods)

    def answering(self, lm: LanguageModel) -> Generator[None, None, None]:
        """See `Run`; comes up for air after every point."""
        task = self.task
        points = sweep(
            lm,
            task.document,
            task.question,
            methods=task.methods,
            budgets=task.budgets,
            span=task.span,
            tokens=self.host.soft_tokens(task.methods),
            question_first=task.question_first,
            answer_prefix=task.answer_prefix,
            truncate=task.truncate,
            max_new_tokens=task.max_new_tokens,
            on_layer=self._on_layer,
        )
        for point in points:
            self.phase = "writing"
            self.points.append(point)
            yield
