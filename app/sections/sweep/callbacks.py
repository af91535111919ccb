"""What happens in the section of the sweep: values in, values out. Builds no component."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text
from app.sections.ask.callbacks import check_filled
from app.sections.measuring import MeasuringCallbacks
from app.sections.sweep import curves
from app.server.limits import whole_number
from app.server.pins import spans_of
from app.server.sweep_run import SweepRun, SweepTask
from app.style.toasts import errors_shown
from judgeq.errors import InputError
from judgeq.methods import METHODS


@dataclass(frozen=True)
class SweepCallbacks(MeasuringCallbacks[SweepRun]):
    """The section's reactions, over the page's model."""

    @errors_shown()
    def begin(
        self,
        document: str,
        question: str,
        question_first: bool,
        max_new_tokens: float,
        truncate: bool,
        methods: list[str],
        watched: str,
        answer_prefix: str = "",
    ) -> tuple[Any, ...]:
        """A sweep for what the page shows."""
        check_filled(document, question)
        if not methods:
            raise InputError(text.SWEEP_NO_METHOD)
        document = document.strip()
        places = spans_of(document, " ".join((watched or "").split()))
        task = SweepTask(
            document,
            question,
            methods=tuple(name for name in METHODS if name in methods),
            question_first=question_first,
            truncate=truncate,
            max_new_tokens=whole_number(max_new_tokens, text.LENGTH),
            span=places[0] if places else None,
            answer_prefix=(answer_prefix or "").strip(),
        )
        return self.begun(SweepRun(task, self.host))

    def status(self, run: SweepRun) -> str:
        return curves.status_of(run)

    def progress(self, run: SweepRun) -> int:
        return len(run.points)

    def results(self, run: SweepRun) -> tuple[Any, ...]:
        points = list(run.points)
        return gr.update(visible=True), curves.figure(points), curves.table(points)
