"""The results of a calibration: in a sentence, as a table, and what broke first. Every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app import text
from app.sections.ask.cards import begun_status, busy_status, error_status, ready_status
from app.server.calibrate_run import CalibrationRun
from app.templates import render
from judgeq.config import Budget
from judgeq.errors import InputError
from judgeq.evaluation.calibration.figure import curve
from judgeq.evaluation.calibration.result import Answered, Calibration
from judgeq.look.format import one_line

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

MOST_SHOWN = 8
"""Lost answers, and questions that are set aside."""
LONGEST = 120
"""Characters of an answer."""


def status_of(run: CalibrationRun) -> str:
    """The line that says how far a calibration is, and in the end what it has found."""
    done, count = len(run.answered), len(run.task.questions)
    if said := begun_status(run):
        return said
    if run.phase == "writing":
        budgets = len(run.task.budgets)
        return busy_status(text.CALIBRATE_ANSWERING.format(done=done, count=count, budgets=budgets), done / count)
    if run.phase == "failed" or (run.found is None and run.phase == "done"):
        return error_status(text.CALIBRATE_FAILED)
    if run.phase == "stopped" or run.found is None:
        return ready_status(text.CALIBRATE_STOPPED.format(done=done, count=count))
    return ready_status(run.found.sentence)


def figure(run: CalibrationRun, answered: Sequence[Answered]) -> Figure | None:
    """The curve of the questions that are answered so far; None while none of them counts."""
    task = run.task
    try:
        found = run.found or Calibration.of(
            answered,
            sorted(task.budgets, reverse=True),
            model=run.host.name,
            method=task.methods[0],
            risk=task.risk,
            confidence=task.confidence,
        )
    except InputError:
        return None
    return curve(found)


def numbers(run: CalibrationRun) -> str:
    """The table, the answers that broke first and the promise, once everything is answered."""
    found, questions = run.found, run.task.questions
    if found is None:
        return ""
    aside = "; ".join(one_line(questions[at].line) for at in found.set_aside[:MOST_SHOWN])
    return render(
        "calibrate/found.j2",
        found=found,
        asked=len(questions),
        aside=_short(aside + " …" * (len(found.set_aside) > MOST_SHOWN), 4 * LONGEST),
        named=_name,
        short=_short,
        most=MOST_SHOWN,
    )


def _name(budget: Budget) -> str:
    """A budget as requested: `10 %` or `128 rows`."""
    return f"{budget:,} rows" if isinstance(budget, int) else f"{100 * budget:.3g} %"


def _short(answer: str, longest: int = LONGEST) -> str:
    line = one_line(answer)
    return line if len(line) <= longest else f"{line[:longest].rstrip()} …"
