"""A judge for the loaded model: what it takes, one button that trains or resumes, a curve that grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app import text
from app.sections import measuring
from app.sections.events import LIGHT, QUEUED
from app.sections.folding import folded
from app.sections.train.callbacks import TrainCallbacks
from app.server.host import ModelHost


def build_train(demo: gr.Blocks, host: ModelHost, parent: Path) -> gr.events.Dependency:
    """The section: one button estimates, one trains or resumes in a folder in `parent`, one stops.

    Returns:
        The event after which there may be a judge.
    """
    run = gr.State(None)  # goes on when its page is closed
    with folded(text.TRAIN_TITLE, text.TRAIN_LEAD, text.TRAIN_FOLD, "train"):
        with gr.Row(elem_id="train-how"):
            recipes = [(label, name) for name, label in text.TRAIN_RECIPES.items()]
            recipe = gr.Radio(recipes, value="quick", label=text.TRAIN_RECIPE, elem_id="train-recipe")
            named = {"label": text.TRAIN_FOLDER, "placeholder": text.TRAIN_FOLDER_PLACEHOLDER}
            folder = gr.Textbox("", **named, max_lines=1, elem_id="train-folder")
        with gr.Row(elem_id="train-act"):
            estimate = gr.Button(text.TRAIN_ESTIMATE, scale=0, min_width=200, elem_id="train-estimate")
            start = gr.Button(text.TRAIN, variant="primary", scale=0, min_width=200, elem_id="train-start")
            cancel = gr.Button(text.STOP, interactive=False, scale=0, min_width=100, elem_id="train-cancel")
        status = gr.HTML("", elem_id="train-status")
        with gr.Column(visible=False, elem_id="train-panel") as panel:
            figure = gr.Plot(show_label=False, container=False, elem_id="train-figure")
            numbers = gr.HTML(elem_id="train-numbers")
    shared: dict[str, Any] = {"run": run, "start": start, "cancel": cancel, "status": status}
    shared["results"] = results = [panel, figure, numbers]
    reactions = TrainCallbacks(host, parent)
    measuring.wire(TrainCallbacks(host, parent, True), [estimate.click], [recipe, folder], **shared)
    trained = measuring.wire(reactions, [start.click], [recipe, folder], **shared)
    opened = demo.load(reactions.attach, None, [run, status, panel, start, cancel], **QUEUED)
    again = opened.success(reactions.follow, run, [status, *results], **QUEUED)
    again.then(measuring.idle_buttons, None, [start, cancel], **LIGHT)
    return trained
