"""What happens in the section of the calibration: values in, values out. Builds no component."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text
from app.sections.ask.callbacks import TICK, check_filled
from app.sections.ask.cards import ready_status
from app.sections.calibrate import results
from app.server.calibrate_run import CalibrationRun, CalibrationTask, read_questions
from app.server.host import ModelHost
from app.server.limits import whole_number
from app.style.toasts import shown
from judgeq.errors import InputError, JudgeqError
from judgeq.evaluation.calibration.questions import propose_questions

PROPOSED = 40
"""Questions that are proposed: one of them may break at 90 % with 90 % confidence."""


@dataclass(frozen=True)
class CalibrationCallbacks:
    """The section's reactions, over the page's model."""

    host: ModelHost

    def propose(self, document: str) -> tuple[str, str]:
        """Begun sentences of the document, one a line, and what they are.

        Raises:
            gr.Error: no text, or none of its sentences can be begun.
        """
        try:
            check_filled(document, "?")
            self.host.limits.check_texts(document, "")
            proposed = propose_questions(document, PROPOSED)
            if not proposed:
                raise InputError(text.CALIBRATE_NONE_PROPOSED)
        except JudgeqError as error:
            raise shown(error) from None
        said = text.CALIBRATE_PROPOSED.format(count=len(proposed))
        return "\n".join(each.line for each in proposed), ready_status(said)

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
        """A calibration for what the page shows, and the section before it starts.

        Returns:
            Run, status, the panel with the results, and both buttons.

        Raises:
            gr.Error: something is missing or invalid.
        """
        try:
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
            run = CalibrationRun(task, self.host)
            run.look()
        except JudgeqError as error:
            raise shown(error) from None
        return run, results.status_of(run), gr.update(visible=False), *_buttons(busy=True)

    def follow(self, run: CalibrationRun) -> Iterator[tuple[Any, ...]]:
        """Start a calibration and report it until it ends; leaving this generator stops it.

        Yields:
            Status, panel, curve and numbers; the last three only with new answers.

        Raises:
            gr.Error: the calibration failed.
        """
        try:
            run.start()
        except JudgeqError as error:
            raise shown(error) from None
        drawn = 0
        try:
            while not run.finished.wait(TICK):
                answered = list(run.answered)
                yield results.status_of(run), *_news(run, answered, drawn)
                drawn = len(answered)
            yield results.status_of(run), *_news(run, run.answered, -1)
        finally:
            if not run.finished.is_set():
                run.cancel()
        if run.error is not None:
            raise shown(run.error)

    def stop(self, run: CalibrationRun | None) -> str:
        """End a calibration and say how far it came."""
        if run is None:
            return ""
        run.stop()
        return results.status_of(run)


def idle_buttons() -> tuple[Any, Any]:
    """Both buttons when nothing is measured."""
    return _buttons(busy=False)


def close_calibration(run: CalibrationRun | None) -> None:
    """Free a visitor's calibration when the page is closed."""
    if run is not None:
        run.cancel()


def _risk(survive: object) -> float:
    """The share that may be lost; the page has the share that must survive."""
    if not isinstance(survive, int | float):
        raise InputError(f"{text.CALIBRATE_SURVIVE} is not a number: choose one of those offered")
    return round(1 - survive, 6)


def _news(run: CalibrationRun, answered: list[Any], drawn: int) -> tuple[Any, ...]:
    figure = results.figure(run, answered) if len(answered) != drawn else None
    if figure is None:
        return (gr.skip(),) * 3
    return gr.update(visible=True), figure, results.numbers(run)


def _buttons(busy: bool) -> tuple[Any, Any]:
    return gr.update(interactive=not busy), gr.update(interactive=busy)
