"""What happens in the section of the calibration: values in, values out. Builds no component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text
from app.sections.ask.callbacks import check_filled
from app.sections.ask.cards import ready_status
from app.sections.calibrate import results
from app.sections.measuring import MeasuringCallbacks
from app.server.calibrate_run import CalibrationRun, CalibrationTask, read_questions
from app.server.limits import whole_number
from app.style.toasts import errors_shown
from judgeq.errors import InputError
from judgeq.evaluation.calibration.questions import propose_questions

PROPOSED = 40
"""Questions that are proposed: one of them may break at 90 % with 90 % confidence."""


@dataclass(frozen=True)
class CalibrationCallbacks(MeasuringCallbacks[CalibrationRun]):
    """The section's reactions, over the page's model."""

    @errors_shown()
    def propose(self, document: str) -> tuple[str, str]:
        """Begun sentences of the document, one a line, and what they are.

        Raises:
            gr.Error: no text, or none of its sentences can be begun.
        """
        check_filled(document, "?")
        self.host.limits.check_texts(document, "")
        proposed = propose_questions(document, PROPOSED)
        if not proposed:
            raise InputError(text.CALIBRATE_NONE_PROPOSED)
        said = text.CALIBRATE_PROPOSED.format(count=len(proposed))
        return "\n".join(each.line for each in proposed), ready_status(said)

    @errors_shown()
    def begin(
        self,
        document: str,
        question_first: bool,
        max_new_tokens: float,
        questions: str,
        method: str | None,
        survive: float,
        confidence: float,
    ) -> tuple[Any, ...]:
        """A calibration for what the page shows."""
        check_filled(document, "?")
        if not method:
            raise InputError(text.CALIBRATE_NO_METHOD)
        task = CalibrationTask.of(
            document.strip(),
            read_questions(questions, self.host.limits),
            methods=(method,),
            risk=_risk(survive),
            confidence=confidence,
            question_first=question_first,
            max_new_tokens=whole_number(max_new_tokens, text.LENGTH),
        )
        return self.begun(CalibrationRun(task, self.host))

    def status(self, run: CalibrationRun) -> str:
        return results.status_of(run)

    def progress(self, run: CalibrationRun) -> int:
        return len(run.answered) + (run.found is not None)

    def results(self, run: CalibrationRun) -> tuple[Any, ...]:
        """See `MeasuringCallbacks`; nothing while no question counts."""
        figure = results.figure(run, list(run.answered))
        if figure is None:
            return (gr.skip(),) * 3
        return gr.update(visible=True), figure, results.numbers(run)


def _risk(survive: object) -> float:
    """The share that may be lost; the page has the share that must survive."""
    if not isinstance(survive, int | float):
        raise InputError(f"{text.CALIBRATE_SURVIVE} is not a number: choose one of those offered")
    return round(1 - survive, 6)
