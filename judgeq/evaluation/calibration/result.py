"""What answers at several budgets show: the smallest safe budget, the curve with its bounds, and what broke first.

Knows nothing of models.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from judgeq.config import Budget
from judgeq.console import say
from judgeq.errors import InputError
from judgeq.evaluation.calibration.binomial import highest, lowest, more_trials, passed
from judgeq.evaluation.calibration.questions import CalibrationQuestion
from judgeq.evaluation.journal import Rated
from judgeq.look.format import one_line, percent, size
from judgeq.methods import title_of
from judgeq.objects import brief
from judgeq.values import number

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SHOWN = 5
"""Lost answers that a terminal shows."""


@dataclass(frozen=True)
class Answered:
    """The answers to one question.

    Attributes:
        question: the question.
        prompt_tokens: length of its prompt.
        full: the full cache's answer.
        answers: that of each budget, the largest first.
        rows: of each budget, per KV head.
    """

    __repr__ = brief

    question: CalibrationQuestion
    prompt_tokens: int
    full: Rated
    answers: tuple[Rated, ...]
    rows: tuple[int, ...]

    @property
    def counts(self) -> bool:
        """Whether the full cache's answer is one that can be lost: as expected, where something is expected."""
        return self.question.survives(self.full.text, self.full.text)

    @property
    def lost_at(self) -> tuple[bool, ...]:
        """Whether the answer is lost, at each budget."""
        return tuple(not self.question.survives(self.full.text, each.text) for each in self.answers)


@dataclass(frozen=True)
class CalibrationPoint:
    """One budget.

    Attributes:
        budget: as requested.
        rows: per KV head, the mean over questions.
        share: `rows` as a share of the prompt's tokens.
        kv_bytes: bytes of the kept rows, the mean over questions, measured from the tensors.
        survived: questions whose answer survives.
        low, high: Clopper-Pearson bounds of the share that survives, each with the calibration's confidence by itself.
        safe: this budget and all larger ones passed.
    """

    budget: Budget
    rows: float
    share: float
    kv_bytes: int
    survived: int
    low: float
    high: float
    safe: bool


@dataclass(frozen=True)
class LostAnswer:
    """A question whose answer is lost.

    Attributes:
        at: number of the question, from 0.
        question: as typed on one line.
        budget: the largest budget at which its answer is lost.
        full, answer: the full cache's answer, and the one there.
    """

    at: int
    question: str
    budget: Budget
    full: str
    answer: str


@dataclass(frozen=True)
class Calibration:
    """How small is safe, and how sure that is.

    Attributes:
        model, method: names.
        risk, confidence: as asked for.
        questions: how many count.
        set_aside: indices, from 0, of those that do not, since the full cache does not find their expected answer.
        points: one per budget, the largest first.
        lost: lost answers, in the order in which they break as the budget shrinks.
        prompt_tokens: mean length of the prompts in tokens.
        full_kv_bytes: bytes of all rows, the mean over questions.
    """

    __repr__ = brief

    model: str
    method: str
    risk: float
    confidence: float
    questions: int
    set_aside: tuple[int, ...]
    points: tuple[CalibrationPoint, ...]
    lost: tuple[LostAnswer, ...]
    prompt_tokens: float
    full_kv_bytes: int

    @classmethod
    def of(
        cls,
        answered: Sequence[Answered],
        budgets: Sequence[Budget],
        *,
        model: str,
        method: str,
        risk: float,
        confidence: float,
    ) -> Calibration:
        """What the answers show.

        Args:
            budgets: the largest first.

        Raises:
            InputError: no answer counts.
        """
        counted = [each for each in answered if each.counts]
        if not counted:
            raise InputError(
                "The full cache finds none of the expected answers, so nothing can be lost: check what is expected, or "
                "begin the answers, which helps small models"
            )
        trials = len(counted)
        losses = [sum(each.lost_at[at] for each in counted) for at in range(len(budgets))]
        safe = passed(losses, trials, risk, confidence)
        points = tuple(
            CalibrationPoint(
                budget=budget,
                rows=_mean([each.rows[at] for each in counted]),
                share=_mean([each.rows[at] / each.prompt_tokens for each in counted]),
                kv_bytes=round(_mean([each.answers[at].kv_bytes or 0 for each in counted])),
                survived=trials - losses[at],
                low=lowest(trials - losses[at], trials, confidence),
                high=highest(trials - losses[at], trials, confidence),
                safe=at < safe,
            )
            for at, budget in enumerate(budgets)
        )
        lost = [
            (each.lost_at.index(True), at, each)
            for at, each in enumerate(answered)
            if each.counts and any(each.lost_at)
        ]
        return cls(
            model=model,
            method=method,
            risk=risk,
            confidence=confidence,
            questions=trials,
            set_aside=tuple(at for at, each in enumerate(answered) if not each.counts),
            points=points,
            lost=tuple(
                LostAnswer(at, each.question.line, budgets[first], each.full.text, each.answers[first].text)
                for first, at, each in sorted(lost, key=lambda found: found[:2])
            ),
            prompt_tokens=_mean([each.prompt_tokens for each in counted]),
            full_kv_bytes=round(_mean([each.full.kv_bytes or 0 for each in counted])),
        )

    @property
    def point(self) -> CalibrationPoint | None:
        """The smallest safe budget's; None where none is."""
        return next((point for point in reversed(self.points) if point.safe), None)

    @property
    def budget(self) -> Budget | None:
        """The smallest safe budget; None where none is."""
        return None if self.point is None else self.point.budget

    @property
    def more_questions(self) -> int:
        """More questions, none of them lost, that the largest budget that did not pass would need; 0 = all passed."""
        failed = next((point for point in self.points if not point.safe), None)
        if failed is None:
            return 0
        return more_trials(self.questions - failed.survived, self.questions, self.risk, self.confidence)

    @property
    def sentence(self) -> str:
        """The result in one or two sentences."""
        kept, sure = f"{percent(1 - self.risk)} of such questions", f"{percent(self.confidence)} confidence"
        point, shown = self.point, self.points[0]
        if point is not None:
            return (
                f"{title_of(self.method)} keeps the full cache’s answer to at least {kept} with {budget_text(point)}, "
                f"{size(point.kv_bytes)} instead of {size(self.full_kv_bytes)}: "
                f"{point.survived:,} of {self.questions:,} survived, which shows it with {sure}."
            )
        more = self.more_questions
        needed = f"{more:,} more questions would be" if more > 1 else "1 more question would be"
        return (
            f"No budget is shown to be safe: with {budget_text(shown)} {shown.survived:,} of {self.questions:,} "
            f"answers survived, which shows at least {percent(shown.low)} with {sure}, and {kept} are asked for. "
            f"{needed} enough there, if no other answer broke."
        )

    def check(self, answered: Sequence[Answered]) -> dict[str, Any]:
        """Whether other questions keep the promise at the chosen budget: counts, share and bounds.

        Raises:
            InputError: there is no safe budget, or none of these questions counts.
        """
        counted = [each for each in answered if each.counts]
        if self.point is None or not counted:
            raise InputError("There is nothing to check: no budget is safe, or no other question counts")
        at = self.points.index(self.point)
        survived, trials = sum(not each.lost_at[at] for each in counted), len(counted)
        return {
            "budget": self.budget,
            "questions": trials,
            "set_aside": len(answered) - trials,
            "survived": survived,
            "share": round(survived / trials, 4),
            "low": round(lowest(survived, trials, self.confidence), 4),
            "high": round(highest(survived, trials, self.confidence), 4),
            "promised": round(1 - self.risk, 4),
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            **asdict(self),
            "budget": self.budget,
            "more_questions": self.more_questions,
            "sentence": self.sentence,
        }

    def to_figure(self) -> Figure:
        """The curve with its bounds as a Plotly figure."""
        from judgeq.evaluation.calibration.figure import curve

        return curve(self)

    def lines(self) -> list[str]:
        """A table, the answers that broke first, and the sentence, for a terminal."""
        head = f"{'budget':>8} {'rows':>8} {'memory':>10} {'survive':>9} {'at least':>9} {'at most':>8}"
        table = [
            f"{point.budget!s:>8} {point.rows:8,.0f} {size(point.kv_bytes):>10} "
            f"{point.survived:>5,}/{self.questions:<3,} {percent(point.low):>9} {percent(point.high):>8}"
            f"{'  safe' if point.safe else ''}"
            for point in self.points
        ]
        broke = [
            f"  at {each.budget}: {one_line(each.question)}\n"
            f"    {one_line(each.full)!r} became {one_line(each.answer)!r}"
            for each in self.lost[:SHOWN]
        ]
        aside = (
            [f"Set aside, since the full cache does not find what is expected: {len(self.set_aside):,}."]
            if self.set_aside
            else []
        )
        return [head, *table, *(["Broke first:", *broke] if broke else []), *aside, self.sentence]

    def show(self) -> None:
        """Show curve and sentence in a notebook, or the same as a table in a terminal."""
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if getattr(shell, "kernel", None) is not None:
            from IPython.display import display

            display(self.to_figure())
            say(f"{self.sentence}\n", sys.stdout)
        else:
            say("\n".join([*self.lines(), ""]), sys.stdout)


def budget_text(point: CalibrationPoint) -> str:
    """`10 % of the rows (112 on average)` or `128 rows`."""
    if isinstance(point.budget, int):
        return f"{point.budget:,} rows"
    return f"{100 * point.budget:.3g} % of the rows ({point.rows:,.0f})"


def check_promise(risk: float, confidence: float) -> None:
    """Refuse a risk or confidence outside (0, 1), with an `InputError`."""
    for name, value, example in (("risk", risk, 0.1), ("confidence", confidence, 0.9)):
        found = number(value)
        if found is None or not 0 < found < 1:
            raise InputError(f"{name} is {value!r}: give a share between 0 and 1, such as {example}")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
