"""How small it can get: one button, curves that grow point by point, and a table of the same."""

from __future__ import annotations

import gradio as gr

from app import text
from app.sections import measuring
from app.sections.ask.inputs import Inputs
from app.sections.folding import folded
from app.sections.sweep import callbacks as do
from app.server.host import ModelHost
from app.server.sweep_run import SweepTask
from judgeq.methods import question_methods, title_of


class Sweep:
    """The section's components."""

    def __init__(self, keep_s: int) -> None:
        """Builds them, without a curve; `keep_s`: seconds that a sweep is kept for a visitor who is away."""
        with folded(text.SWEEP_TITLE, text.SWEEP_LEAD, text.SWEEP_FOLD, "sweep"):
            self.methods = gr.CheckboxGroup(
                [(title_of(name), name) for name in question_methods() if name != "full"],
                value=list(SweepTask.methods),
                label=text.SWEEP_METHODS,
                elem_id="sweep-methods",
            )
            self.watched = gr.Textbox(
                "",
                label=text.SWEEP_WATCHED,
                info=text.SWEEP_WATCHED_INFO,
                lines=1,
                max_lines=1,
                elem_id="sweep-watched",
            )
            self.work = measuring.Work("sweep", text.SWEEP, text.SWEEP_CANCEL, keep_s)


def wire_sweep(host: ModelHost, sweep: Sweep, inputs: Inputs) -> None:
    """The button sweeps what the page shows; the other stops the work itself."""
    asked = [inputs.document, inputs.question, inputs.question_first, inputs.length, inputs.truncate]
    measuring.wire(
        do.SweepCallbacks(host),
        [sweep.work.start.click, sweep.watched.submit],
        [*asked, sweep.methods, sweep.watched, inputs.prefix],
        sweep.work,
    )
