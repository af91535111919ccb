"""The left side of the page: document, question, budget, options, and the two buttons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text
from app.sections.ask import callbacks as do
from app.sections.ask.cards import loading_status
from app.sections.ask.files import Files, build_files, wire_files
from app.sections.events import LIGHT
from app.server.host import ModelHost
from app.server.samples import samples
from judgeq.methods import question_methods, title_of


@dataclass(frozen=True)
class Inputs:
    """What a person fills in."""

    sample: gr.Dropdown
    document: gr.Textbox
    files: Files
    question: gr.Textbox
    prefix: gr.Textbox
    propose: gr.Checkbox
    proposed_for: gr.State
    question_first: gr.Checkbox
    rows: gr.Number
    share: gr.Slider
    note: gr.HTML
    methods: gr.CheckboxGroup
    length: gr.Slider
    truncate: gr.Checkbox
    ask: gr.Button
    stop: gr.Button
    status: gr.HTML

    @property
    def task(self) -> list[Any]:
        """Inputs of a run, in the order of `Callbacks.prepare`."""
        return [
            self.document,
            self.question,
            self.rows,
            self.methods,
            self.question_first,
            self.length,
            self.truncate,
        ]

    @property
    def beginning(self) -> list[Any]:
        """How answers begin: inputs of a run, after the pins."""
        return [self.prefix, self.propose, self.proposed_for]

    @property
    def prompt(self) -> list[Any]:
        """Inputs that the prompt's length depends on."""
        return [self.document, self.question, self.truncate]


def build_inputs(host: ModelHost) -> Inputs:
    first = samples()[0]
    choices = [(entry.title, entry.name) for entry in samples()]
    sample = gr.Dropdown(choices, value=first.name, label=text.SAMPLE, info=first.look, elem_id="sample")
    document = gr.Textbox(
        first.document,
        label=text.DOCUMENT,
        placeholder=text.DOCUMENT_PLACEHOLDER,
        lines=8,
        max_lines=8,
        autoscroll=False,
        elem_id="document",
    )
    files = build_files(host)
    question = gr.Textbox(
        first.question,
        label=text.QUESTION,
        placeholder=text.QUESTION_PLACEHOLDER,
        lines=1,
        max_lines=4,
        elem_id="question",
    )
    prefix = gr.Textbox(
        first.answer_prefix,
        label=text.PREFIX,
        placeholder=text.PREFIX_PLACEHOLDER,
        lines=1,
        max_lines=2,
        elem_id="prefix",
    )
    propose = gr.Checkbox(True, label=text.PROPOSE, elem_id="propose")
    proposed_for = gr.State(first.question)
    with gr.Row(elem_id="budget"):
        rows = gr.Number(first.budget, label=text.ROWS, precision=0, step=16, scale=0, min_width=120, elem_id="rows")
        with gr.Column(min_width=150, elem_id="share-side"):
            share = gr.Slider(1, 100, 11, step=1, label=text.SHARE, buttons=[], elem_id="share")
            note = gr.HTML(text.COUNTING, elem_id="note")
    with gr.Row(elem_id="act"):
        ask = gr.Button(text.ASK, variant="primary", scale=3, min_width=120, elem_id="ask")
        stop = gr.Button(text.STOP, interactive=False, scale=1, min_width=80, elem_id="stop")
    status = gr.HTML(loading_status(*host.progress), elem_id="status")
    with gr.Accordion(text.OPTIONS, open=False, elem_id="options"):
        methods = gr.CheckboxGroup(
            [(title_of(name), name) for name in question_methods()],
            value=list(text.DEFAULT_METHODS),
            label=text.COMPARE,
            elem_id="methods",
        )
        question_first = gr.Checkbox(
            first.question_first,
            label=text.QUESTION_FIRST,
            info=text.QUESTION_FIRST_INFO,
            elem_id="question-first",
        )
        length = gr.Slider(4, host.limits.answer, 24, step=4, label=text.LENGTH, buttons=[], elem_id="length")
        truncate = gr.Checkbox(False, label=text.TRUNCATE, elem_id="truncate")
    return Inputs(
        sample,
        document,
        files,
        question,
        prefix,
        propose,
        proposed_for,
        question_first,
        rows,
        share,
        note,
        methods,
        length,
        truncate,
        ask,
        stop,
        status,
    )


def wire_inputs(reactions: do.Callbacks, inputs: Inputs, loaded: gr.events.Dependency) -> None:
    """Samples, uploads, and the two sides of the budget."""
    inputs.sample.input(
        do.choose_sample,
        inputs.sample,
        [
            inputs.document,
            inputs.question,
            inputs.rows,
            inputs.question_first,
            inputs.prefix,
            inputs.proposed_for,
            inputs.sample,
        ],
        **LIGHT,
    )
    proposed = [inputs.prefix, inputs.proposed_for]
    inputs.question.change(
        do.propose_prefix,
        [inputs.question, inputs.propose, inputs.proposed_for, inputs.prefix],
        proposed,
        trigger_mode="always_last",
        **LIGHT,
    )
    inputs.propose.input(do.switch_proposals, [inputs.question, inputs.propose], proposed, **LIGHT)
    wire_files(
        inputs.files,
        reactions.host,
        loaded,
        inputs.document,
        inputs.sample,
        [inputs.question, inputs.truncate, inputs.length],
    )
    gr.on(
        [inputs.document.change, inputs.question.change, inputs.truncate.change, inputs.rows.input],
        reactions.count,
        [*inputs.prompt, inputs.rows],
        [inputs.note, inputs.share],
        trigger_mode="always_last",
        **LIGHT,
    )
    inputs.share.input(
        reactions.rows_for,
        [*inputs.prompt, inputs.share],
        [inputs.rows, inputs.note],
        trigger_mode="always_last",
        **LIGHT,
    )
