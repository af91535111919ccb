"""How small is safe: questions, one button, a curve with its band that grows, and what broke first."""

from __future__ import annotations

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
from judgeq.config import CONFIDENCE, RISK
from judgeq.methods import question_methods, title_of

SHARES = [("80 %", 0.8), ("90 %", 0.9), ("95 %", 0.95), ("99 %", 0.99)]


class Calibrate:
    """The section's components."""

    def __init__(self, keep_s: int) -> None:
        """Builds them, without a curve; `keep_s`: seconds that a run is kept for a visitor who is away."""
        with folded(text.CALIBRATE_TITLE, text.CALIBRATE_LEAD, text.CALIBRATE_FOLD, "calibrate"):
            self.questions = gr.Textbox(
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
                self.propose = gr.Button(text.CALIBRATE_PROPOSE, size="sm", scale=0, elem_id="calibrate-propose")
                self.upload = upload_button(text.CALIBRATE_UPLOAD, [".txt"], elem_id="calibrate-upload")
            with gr.Row(elem_id="calibrate-how"):
                self.method = gr.Dropdown(
                    [(title_of(name), name) for name in question_methods() if name != "full"],
                    value=CalibrationTask.methods[0],
                    label=text.CALIBRATE_METHOD,
                    elem_id="calibrate-method",
                )
                self.survive = gr.Dropdown(
                    SHARES, value=1 - RISK, label=text.CALIBRATE_SURVIVE, elem_id="calibrate-survive"
                )
                self.confidence = gr.Dropdown(
                    SHARES, value=CONFIDENCE, label=text.CALIBRATE_CONFIDENCE, elem_id="calibrate-confidence"
                )
            self.work = measuring.Work("calibrate", text.CALIBRATE, text.CALIBRATE_CANCEL, keep_s, width=290)


def wire_calibrate(host: ModelHost, section: Calibrate, inputs: Inputs) -> None:
    """Questions are proposed, uploaded or typed; one button asks them all, the other stops the work itself."""
    reactions, shown = do.CalibrationCallbacks(host), [section.questions, section.work.status]
    section.propose.click(reactions.propose, inputs.document, shown, **QUEUED)
    section.upload.upload(read_upload, section.upload, section.questions, **READERS)
    asked = [inputs.document, inputs.question_first, inputs.length, section.questions]
    wanted = [section.method, section.survive, section.confidence]
    measuring.wire(reactions, [section.work.start.click], [*asked, *wanted], section.work)
