"""How small it can get: one button, curves that grow point by point, and a table of the same."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app import text
from app.sections import measuring
from app.sections.ask.inputs import Inputs
from app.sections.folding import folded
from app.sections.sweep import callbacks as do
from app.server.host import ModelHost
from app.server.sweep_run import SweepTask
from judgeq.methods import question_methods, title_of


@dataclass(frozen=True)
class Sweep:
    """The section's components."""

    run: gr.State
    methods: gr.CheckboxGroup
    watched: gr.Textbox
    start: gr.Button
    cancel: gr.Button
    status: gr.HTML
    panel: gr.Column
    figure: gr.Plot
    table: gr.HTML


def build_sweep(keep_s: int) -> Sweep:
    """The components, without a curve; `keep_s`: seconds that a sweep is kept for a visitor who is away."""
    run = gr.State(None, time_to_live=keep_s, delete_callback=measuring.close)
    with folded(text.SWEEP_TITLE, text.SWEEP_LEAD, text.SWEEP_FOLD, "sweep"):
        methods = gr.CheckboxGroup(
            [(title_of(name), name) for name in question_methods() if name != "full"],
            value=list(SweepTask.methods),
            label=text.SWEEP_METHODS,
            elem_id="sweep-methods",
        )
        watched = gr.Textbox(
            "",
            label=text.SWEEP_WATCHED,
            info=text.SWEEP_WATCHED_INFO,
            lines=1,
            max_lines=1,
            elem_id="sweep-watched",
        )
        with gr.Row(elem_id="sweep-act"):
            start = gr.Button(text.SWEEP, scale=0, min_width=200, elem_id="sweep-start")
            cancel = gr.Button(
                text.SWEEP_CANCEL, interactive=False, scale=0, min_width=100, elem_id="sweep-cancel"
            )
        status = gr.HTML("", elem_id="sweep-status")
        with gr.Column(visible=False, elem_id="sweep-panel") as panel:
            figure = gr.Plot(show_label=False, container=False, elem_id="sweep-figure")
            table = gr.HTML(elem_id="sweep-numbers")
    return Sweep(run, methods, watched, start, cancel, status, panel, figure, table)


def wire_sweep(host: ModelHost, sweep: Sweep, inputs: Inputs) -> None:
    """The button sweeps what the page shows; the other stops the work itself."""
    asked = [
        inputs.document,
        inputs.question,
        inputs.question_first,
        inputs.length,
        inputs.truncate,
    ]
    measuring.wire(
        do.SweepCallbacks(host),
        [sweep.start.click, sweep.watched.submit],
        [*asked, sweep.methods, sweep.watched, inputs.prefix],
        run=sweep.run,
        start=sweep.start,
        cancel=sweep.cancel,
        status=sweep.status,
        results=[sweep.panel, sweep.figure, sweep.table],
    )
