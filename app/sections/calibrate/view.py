"""How small is safe: questions, one button, a curve with its band that grows, and what broke first."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from app import text
from app.sections import measuring
from app.sections.ask.files import READERS, read_upload, upload_button
from app.sections.ask.inputs import Inputs
from app.sections.calibrate import callbacks as do
from app.sections.events import QUEUED
from app.sections.folding import folded
from app.server.calibrate_run import CalibrationTask
from app.server.host import ModelHost
from judgeq.methods import question_methods, title_of

SHARES = [("80 %", 0.8), ("90 %", 0.9), ("95 %", 0.95), ("99 %", 0.99)]


@dataclass(frozen=True)
class Calibrate:
    """The section's components."""

    run: gr.State
    questions: gr.Textbox
    propose: gr.Button
    upload: gr.UploadButton
    method: gr.Dropdown
    survive: gr.Dropdown
    confidence: gr.Dropdown
    start: gr.Button
    cancel: gr.Button
    status: gr.HTML
    panel: gr.Column
    figure: gr.Plot
    numbers: gr.HTML


def build_calibrate(keep_s: int) -> Calibrate:
    """The components, without a curve; `keep_s`: seconds that a run is kept for a visitor who is away."""
    run = gr.State(None, time_to_live=keep_s, delete_callback=measuring.close)
    with folded(text.CALIBRATE_TITLE, text.CALIBRATE_LEAD, text.CALIBRATE_FOLD, "calibrate"):
        questions = gr.Textbox(
            "",
            label=text.CALIBRATE_QUESTIONS,
            info=text.CALIBRATE_QUESTIONS_INFO,
            placeholder=text.CALIBRATE_PLACEHOLDER,
            lines=5,
            max_lines=12,
            autoscroll=False,
            elem_id="calibrate-questions",
        )
        with gr.Row(elem_id="calibrate-give"):
            propose = gr.Button(text.CALIBRATE_PROPOSE, size="sm", scale=0, elem_id="calibrate-propose")
            upload = upload_button(text.CALIBRATE_UPLOAD, [".txt"], elem_id="calibrate-upload")
        with gr.Row(elem_id="calibrate-how"):
            method = gr.Dropdown(
                [(title_of(name), name) for name in question_methods() if name != "full"],
                value=CalibrationTask.methods[0],
                label=text.CALIBRATE_METHOD,
                elem_id="calibrate-method",
            )
            survive = gr.Dropdown(
                SHARES, value=0.9, label=text.CALIBRATE_SURVIVE, elem_id="calibrate-survive"
            )
            confidence = gr.Dropdown(
                SHARES, value=0.9, label=text.CALIBRATE_CONFIDENCE, elem_id="calibrate-confidence"
            )
        with gr.Row(elem_id="calibrate-act"):
            start = gr.Button(text.CALIBRATE, scale=0, min_width=290, elem_id="calibrate-start")
            cancel = gr.Button(
                text.CALIBRATE_CANCEL, interactive=False, scale=0, min_width=100, elem_id="calibrate-cancel"
            )
        status = gr.HTML("", elem_id="calibrate-status")
        with gr.Column(visible=False, elem_id="calibrate-panel") as panel:
            figure = gr.Plot(show_label=False, container=False, elem_id="calibrate-figure")
            numbers = gr.HTML(elem_id="calibrate-numbers")
    return Calibrate(
        run, questions, propose, upload, method, survive, confidence, start, cancel, status, panel, figure, numbers
    )  # fmt: skip


def wire_calibrate(host: ModelHost, section: Calibrate, inputs: Inputs) -> None:
    """Questions are proposed, uploaded or typed; one button asks them all, the other stops the work itself."""
    reactions = do.CalibrationCallbacks(host)
    section.propose.click(reactions.propose, inputs.document, [section.questions, section.status], **QUEUED)
    section.upload.upload(read_upload, section.upload, section.questions, **READERS)
    measuring.wire(
        reactions,
        [section.start.click],
        [
            inputs.document,
            inputs.question_first,
            inputs.length,
            section.questions,
            section.method,
            section.survive,
            section.confidence,
        ],
        run=section.run,
        start=section.start,
        cancel=section.cancel,
        status=section.status,
        results=[section.panel, section.figure, section.numbers],
    )
