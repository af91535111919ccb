"""What sections share whose button starts a run, whose results grow while it works, and that can be cancelled."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import gradio as gr

from app.sections.ask.callbacks import TICK
from app.sections.events import LIGHT, QUEUED
from app.server.host import ModelHost
from app.server.run import Run
from app.style.toasts import errors_shown, shown

R = TypeVar("R", bound=Run)


@dataclass(frozen=True)
class MeasuringCallbacks(ABC, Generic[R]):
    """The section's reactions, over the page's model. Builds no component."""

    host: ModelHost

    KEEPS_ON: ClassVar[bool] = False
    """A run goes on when its page is closed."""

    @abstractmethod
    def begin(self, *values: Any) -> tuple[Any, ...]:
        """`begun` for what the page shows.

        Raises:
            gr.Error: something is missing or invalid.
        """

    @abstractmethod
    def status(self, run: R) -> str:
        """The line that says how far a run is, and in the end what it has found."""

    @abstractmethod
    def progress(self, run: R) -> int:
        """Grows with everything that `results` shows; 0 where there is nothing yet."""

    @abstractmethod
    def results(self, run: R) -> tuple[Any, ...]:
        """Panel, figure and numbers."""

    def begun(self, run: R) -> tuple[Any, ...]:
        """Run, status, panel and both buttons, before the run starts.

        Raises:
            JudgeqError: the run was evicted.
        """
        run.look()
        return run, self.status(run), gr.update(visible=False), *buttons(busy=True)

    def follow(self, run: R | None) -> Iterator[tuple[Any, ...]]:
        """Start a run, if there is one, and report it until it ends; leaving this generator stops it.

        Yields:
            Status, panel, figure and numbers; the last three only with something new.

        Raises:
            gr.Error: the run failed.
        """
        if run is None:
            return
        with errors_shown():
            run.start()
        drawn, ended = 0, False
        try:
            while not ended:
                ended = run.finished.wait(TICK)
                now = self.progress(run)
                yield self.status(run), *(self.results(run) if now != drawn else (gr.skip(),) * 3)
                drawn = now
        finally:
            if not run.finished.is_set() and not self.KEEPS_ON:
                run.cancel()
        if run.error is not None:
            raise shown(run.error)

    def stop(self, run: R | None) -> str:
        """End a run and say how far it came."""
        if run is None:
            return ""
        run.stop()
        return self.status(run)


class Work:
    """What starts a run, cancels it, says how far it is and shows its results, which are hidden until there are some.

    Attributes:
        results: panel, figure and numbers.
    """

    def __init__(
        self,
        name: str,
        start: str,
        cancel: str,
        keep_s: int | None = None,
        *,
        width: int = 200,
        estimate: str = "",
    ) -> None:
        """Builds the components.

        Args:
            name: how their ids begin.
            start, cancel, estimate: words of the buttons; without those of the last one there is none.
            keep_s: seconds that a run is kept for a visitor who is away; None = it goes on when its page is closed.
            width: pixels of the first buttons.
        """
        kept = {"time_to_live": keep_s, "delete_callback": close} if keep_s else {}
        self.run = gr.State(None, **kept)
        first = {"scale": 0, "min_width": width}
        with gr.Row(elem_id=f"{name}-act"):
            if estimate:
                self.estimate = gr.Button(estimate, **first, elem_id=f"{name}-estimate")
            look = "primary" if estimate else "secondary"
            self.start = gr.Button(start, variant=look, **first, elem_id=f"{name}-start")
            self.cancel = gr.Button(cancel, interactive=False, scale=0, min_width=100, elem_id=f"{name}-cancel")
        self.status = gr.HTML("", elem_id=f"{name}-status")
        with gr.Column(visible=False, elem_id=f"{name}-panel") as panel:
            figure = gr.Plot(show_label=False, container=False, elem_id=f"{name}-figure")
            numbers = gr.HTML(elem_id=f"{name}-numbers")
        self.results = [panel, figure, numbers]


def buttons(busy: bool) -> tuple[Any, Any]:
    """The button that starts, and the one that cancels."""
    return gr.update(interactive=not busy), gr.update(interactive=busy)


def idle_buttons() -> tuple[Any, Any]:
    """Both buttons when nothing is measured."""
    return buttons(busy=False)


def close(run: Run | None) -> None:
    """Free a visitor's run when the page is closed."""
    if run is not None:
        run.cancel()


def wire(
    reactions: MeasuringCallbacks[Any],
    starts: Sequence[Callable[..., Any]],
    inputs: Sequence[Any],
    work: Work,
) -> gr.events.Dependency:
    """The events `starts` begin a run from what the page shows; the cancelling button stops the work itself.

    Args:
        inputs: components whose values `reactions.begin` takes.

    Returns:
        The event that follows a run to its end.
    """
    both = [work.start, work.cancel]
    shown = [work.run, work.status, work.results[0], *both]
    started = gr.on(starts, reactions.begin, inputs, shown, **QUEUED)
    working = started.success(reactions.follow, work.run, [work.status, *work.results], **QUEUED)
    for ended in (working.then, working.failure):  # Gradio 6.31: see `app.ui`
        ended(idle_buttons, None, both, **LIGHT)
    stopped = work.cancel.click(reactions.stop, work.run, work.status, cancels=[working], **LIGHT)
    stopped.then(idle_buttons, None, both, **LIGHT)
    return working
