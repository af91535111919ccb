"""A judge for the loaded model: what it takes, one button that trains or resumes, a curve that grows."""

from __future__ import annotations

from pathlib import Path

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
    with folded(text.TRAIN_TITLE, text.TRAIN_LEAD, text.TRAIN_FOLD, "train"):
        with gr.Row(elem_id="train-how"):
            recipes = [(label, name) for name, label in text.TRAIN_RECIPES.items()]
            recipe = gr.Radio(recipes, value="quick", label=text.TRAIN_RECIPE, elem_id="train-recipe")
            named = {"label": text.TRAIN_FOLDER, "placeholder": text.TRAIN_FOLDER_PLACEHOLDER}
            folder = gr.Textbox("", **named, max_lines=1, elem_id="train-folder")
        work = measuring.Work("train", text.TRAIN, text.STOP, estimate=text.TRAIN_ESTIMATE)
    reactions, inputs = TrainCallbacks(host, parent), [recipe, folder]
    measuring.wire(TrainCallbacks(host, parent, True), [work.estimate.click], inputs, work)
    trained = measuring.wire(reactions, [work.start.click], inputs, work)
    buttons = [work.start, work.cancel]
    opened = demo.load(reactions.attach, None, [work.run, work.status, work.results[0], *buttons], **QUEUED)
    again = opened.success(reactions.follow, work.run, [work.status, *work.results], **QUEUED)
    again.then(measuring.idle_buttons, None, buttons, **LIGHT)
    return trained
