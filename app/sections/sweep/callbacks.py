"""What happens in the section of the sweep: values in, values out. Builds no component."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text
from app.sections.ask.callbacks import TICK, check_filled
from app.sections.sweep import curves
from app.server.host import ModelHost
from app.server.limits import whole_number
from app.server.spans import spans_of
from app.server.sweep_run import SweepRun, SweepTask
from app.style.toasts import shown
from judgeq.errors import InputError, JudgeqError
from judgeq.methods import METHODS


@dataclass(frozen=True)
class SweepCallbacks:
    """The section's reactions, over the page's model."""

    host: ModelHost

    def begin(
        self,
        document: str,
        question: str,
        question_first: bool,
        max_new_tokens: float,
        truncate: bool,
        methods: list[str],
        watched: str,
    ) -> tuple[Any, ...]:
        """A sweep for what the page shows, and the section before it starts.

        Returns:
            Run, status, the panel with the curves, and both buttons.

        Raises:
            gr.Error: something is missing or invalid.
        """
        try:
            task = _task(document, question, question_first, max_new_tokens, truncate, methods, watched)
            run = SweepRun(task, self.host)
            run.look()
        except JudgeqError as error:
            raise shown(error) from None
        return run, curves.status_of(run), gr.update(visible=False), *_buttons(busy=True)

    def follow(self, run: SweepRun) -> Iterator[tuple[Any, ...]]:
        """Start a sweep and report it until it ends; leaving this generator stops it.

        Yields:
            Status, panel, curves and table; the last three only with new points.

        Raises:
            gr.Error: the sweep failed.
        """
        try:
            run.start()
        except JudgeqError as error:
            raise shown(error) from None
        drawn = 0
        try:
            while not run.finished.wait(TICK):
                points = list(run.points)
                yield curves.status_of(run), *_news(points, drawn)
                drawn = len(points)
            yield curves.status_of(run), *_news(list(run.points), drawn)
        finally:
            if not run.finished.is_set():
                run.cancel()
        if run.error is not None:
            raise shown(run.error)

    def stop(self, run: SweepRun | None) -> str:
        """End a sweep and say how far it came."""
        if run is None:
            return ""
        run.stop()
        return curves.status_of(run)


def idle_buttons() -> tuple[Any, Any]:
    """Both buttons when nothing is measured."""
    return _buttons(busy=False)


def close_sweep(run: SweepRun | None) -> None:
    """Free a visitor's sweep when the page is closed."""
    if run is not None:
        run.cancel()


def _task(
    document: str,
    question: str,
    question_first: bool,
    max_new_tokens: float,
    truncate: bool,
    methods: list[str],
    watched: str,
) -> SweepTask:
    check_filled(document, question)
    if not methods:
        raise InputError(text.SWEEP_NO_METHOD)
    document = document.strip()
    places = spans_of(document, " ".join((watched or "").split()))
    return SweepTask(
        document,
        question,
        methods=tuple(name for name in METHODS if name in methods),
        question_first=question_first,
        truncate=truncate,
        max_new_tokens=whole_number(max_new_tokens, text.LENGTH),
        span=places[0] if places else None,
    )


def _news(points: list[Any], drawn: int) -> tuple[Any, ...]:
    if len(points) == drawn:
        return (gr.skip(),) * 3
    return gr.update(visible=True), curves.figure(points), curves.table(points)


def _buttons(busy: bool) -> tuple[Any, Any]:
    return gr.update(interactive=not busy), gr.update(interactive=busy)
