"""What happens in the section of the training: values in, values out. Builds no component.

What a training will take is estimated by `app.server.train_run`.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr

from app import text
from app.sections.ask.cards import busy_status, error_status, loading_status, ready_status
from app.sections.measuring import MeasuringCallbacks, buttons
from app.server.environment import comes_from_here
from app.server.train_run import RECIPES, TrainRun, TrainTask, folder_named
from app.style.toasts import errors_shown
from app.templates import render
from judgeq.errors import InputError
from judgeq.look.format import duration, size
from judgeq.training.curve import curve_figure

DRAW_S = 5
"""Seconds between two drawings of the curve, which takes a browser a moment."""


@dataclass(frozen=True)
class TrainCallbacks(MeasuringCallbacks[TrainRun]):
    """The section's reactions, over the page's model.

    Attributes:
        parent: where the folders of trained soft tokens lie.
        only_estimate: say what a training would take, and train nothing.
    """

    parent: Path
    only_estimate: bool = False

    KEEPS_ON: ClassVar[bool] = True

    @errors_shown()
    def begin(self, recipe: str, folder: str, request: gr.Request) -> tuple[Any, ...]:
        """A training, or its estimate, and the section before it starts.

        Returns:
            Run, status, the panel with the curve, and both buttons.

        Raises:
            gr.Error: something is invalid, a training is running, or the request comes from another machine.
        """
        check_here(request)
        if self.host.training is not None and self.host.training.busy:
            raise InputError(text.TRAIN_BUSY)
        if recipe not in RECIPES:
            raise InputError(text.TRAIN_NO_RECIPE)
        place = folder_named(self.parent, folder, Path(self.host.name).name)
        task = TrainTask(recipe=RECIPES[recipe], folder=place, only_estimate=self.only_estimate)
        self.host.training = run = TrainRun(task, self.host)
        return self.begun(run)

    def attach(self, request: gr.Request) -> tuple[Any, ...]:
        """What `begin` returns, for a training that another page has started and that is still running."""
        run = self.host.training
        if run is None or not run.busy or not comes_from_here(request.client.host, request.headers):
            return None, "", gr.skip(), gr.skip(), gr.skip()
        return run, self.status(run), gr.skip(), *buttons(busy=True)

    def status(self, run: TrainRun) -> str:
        phase, done, total = run.step
        if run.phase == "failed":
            return error_status(text.TRAIN_FAILED)
        if run.phase == "stopped" or (run.stopped and run.finished.is_set()):
            return ready_status(text.TRAIN_STOPPED.format(phase=phase or "start", done=done, total=total))
        if run.phase == "loading":
            return loading_status(*run.host.progress)
        if run.phase == "waiting":
            return busy_status(text.WAITING.format(place=run.place))
        if run.phase == "done":
            said = text.TRAIN_ESTIMATED if run.needs else text.TRAIN_DONE
            return ready_status(said.format(folder=run.task.folder))
        if run.stopped:
            return busy_status(text.TRAIN_STOPPING)
        if not total:
            return busy_status(text.TRAIN_MEASURING if run.task.only_estimate else text.TRAIN_PREPARING)
        return busy_status(text.TRAIN_AT.format(phase=phase.capitalize(), done=done, total=total), done / total)

    def progress(self, run: TrainRun) -> int:
        """See `MeasuringCallbacks`; something new every few seconds, and at the end."""
        if run.finished.is_set():
            return -1
        return int(time.monotonic() / DRAW_S) if run.history else 0

    def results(self, run: TrainRun) -> tuple[Any, ...]:
        figure = gr.update(visible=bool(run.history), value=curve_figure(run.history) if run.history else None)
        return gr.update(visible=True), figure, numbers(run)


def check_here(request: gr.Request) -> None:
    """Raise an `InputError` unless a request comes from this very machine."""
    if not comes_from_here(request.client and request.client.host, request.headers):
        raise InputError(text.TRAIN_ELSEWHERE)


def numbers(run: TrainRun) -> str:
    """The estimate as a table, and the command that does the same."""
    task, needs = run.task, run.needs
    rows = needs and [
        (text.TRAIN_TIME, duration(needs.seconds), "", True),
        *(
            (name, size(needed), text.TRAIN_FREE.format(free=size(free)), needed < free)
            for name, needed, free in (
                (text.TRAIN_MEMORY, needs.memory, needs.free_memory),
                (text.TRAIN_DISK, needs.disk, needs.free_disk),
            )
        ),
    ]
    quick = ["--quick"] if task.recipe == RECIPES["quick"] else []
    command = [
        "python",
        "-m",
        "judgeq",
        "train",
        "--model",
        run.host.name,
        *quick,
        "--out",
        str(task.folder),
        "--resume",
    ]
    return render("train/needs.j2", rows=rows, command=shlex.join(command))
