"""One calibration, from the click to its last question, run like any other task. Knows nothing of Gradio."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, ClassVar

from app import text
from app.server.host import ModelHost
from app.server.limits import Limits
from app.server.run import Run
from app.server.task import Task
from judgeq.config import CONFIDENCE, RISK, Budget
from judgeq.errors import InputError
from judgeq.evaluation.calibration.plan import BUDGETS, CalibrationPlan
from judgeq.evaluation.calibration.questions import CalibrationQuestion, questions_from_text
from judgeq.evaluation.calibration.result import Answered, Calibration, check_promise
from judgeq.evaluation.journal import Journal
from judgeq.models.language_model import LanguageModel


@dataclass(frozen=True)
class CalibrationTask(Task):
    """Questions to calibrate with; `question` is the longest of them, `budget` and pins are not used.

    Attributes:
        questions: the questions.
        risk, confidence, budgets: see `judgeq.calibrate`.
    """

    methods: tuple[str, ...] = ("judgeq",)
    truncate: bool | None = None
    questions: tuple[CalibrationQuestion, ...] = ()
    risk: float = RISK
    confidence: float = CONFIDENCE
    budgets: tuple[Budget, ...] = BUDGETS

    @classmethod
    def of(cls, document: str, questions: tuple[CalibrationQuestion, ...], **options: Any) -> CalibrationTask:
        """A task for these questions; options are fields."""
        longest = max((each.question for each in questions), key=len)
        return cls(document, longest, questions=questions, **options)


class CalibrationRun(Run[CalibrationTask]):
    """A calibration in its own thread; it waits, stops and fails as a `Run` does.

    Attributes:
        answered: the questions that are answered so far.
        found: what they show in the end.
    """

    REPORTED: ClassVar[tuple[str, ...]] = ("phase", "answered", "found")
    LESS: ClassVar[str] = "ask fewer questions"

    def __init__(self, task: CalibrationTask, host: ModelHost) -> None:
        check_promise(task.risk, task.confidence)
        super().__init__(task, host)
        self.what = "document"
        self.answered: list[Answered] = []
        self.found: Calibration | None = None

    def answering(self, lm: LanguageModel) -> Generator[None, None, None]:
        """See `Run`; comes up for air after every question."""
        task = self.task
        plan = CalibrationPlan.of(
            lm,
            [(task.document, question) for question in task.questions],
            risk=task.risk,
            confidence=task.confidence,
            budgets=task.budgets,
            method=task.methods[0],
            tokens=self.host.soft_tokens(task.methods),
            question_first=task.question_first,
            max_new_tokens=task.max_new_tokens,
        )
        for each in plan.answers(Journal(None, {}), self._on_layer):
            self.phase = "writing"
            self.answered.append(each)
            yield
        self.found = plan.conclude(self.answered)


def read_questions(value: object, limits: Limits) -> tuple[CalibrationQuestion, ...]:
    """Questions as a page or a program sends them: a text with one on each line, or a list of such lines.

    Raises:
        InputError: neither, none, or beyond a limit.
    """
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = "\n".join(value)
    if not isinstance(value, str):
        raise InputError("The questions are neither a text nor a list of texts: give one question a line")
    if len(value) > limits.document:
        raise InputError(
            f"The questions have {len(value):,} characters and at most {limits.document:,} are taken: give fewer"
        )
    questions = tuple(questions_from_text(value))
    if not questions:
        raise InputError(text.CALIBRATE_NO_QUESTION)
    if len(questions) > limits.questions:
        raise InputError(f"{len(questions):,} questions are too many: give at most {limits.questions:,}")
    for question in questions:
        for part in (question.question, question.answer_prefix, question.answer):
            limits.check_texts("", part)
    return questions
