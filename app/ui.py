"""The page: composes components and wires them to callbacks. Owns no logic and no words."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import callbacks as do
from app import text
from app.cards import empty_cards, loading_status
from app.samples import samples
from app.session import ModelHost
from app.style import CSS
from app.theme import theme

LONGEST_ANSWER = 256
KEEP_STATE_S = 30 * 60
MODEL = "model"
"""Name of the queue that everything heavy waits in."""

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
LIGHT = {**QUIET, "queue": False}
"""For what is quick and cannot fail: an error outside the queue would reach the page as a status of 500."""
QUEUED = {**QUIET, "concurrency_limit": None}
"""For what may raise `gr.Error`, or yields."""


@dataclass(frozen=True)
class Inputs:
    """What a person fills in."""

    sample: gr.Dropdown
    document: gr.Textbox
    upload: gr.UploadButton
    question: gr.Textbox
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
    def prompt(self) -> list[Any]:
        """Inputs that the prompt's length depends on."""
        return [self.document, self.question, self.truncate]


@dataclass(frozen=True)
class Results:
    """What a person reads."""

    cards: gr.HTML
    empty: gr.HTML
    panel: gr.Column
    method: gr.Radio
    layer: gr.Dropdown
    document: gr.HTML
    heatmap: gr.Plot


def build(host: ModelHost) -> gr.Blocks:
    """The whole page over one model."""
    with gr.Blocks(
        title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)
    ) as demo:
        gr.HTML(
            f'<header class="head"><h1>{text.TITLE}</h1><p>{text.LEAD} <strong>{text.INVITATION}</strong></p></header>'
        )
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(elem_id="inputs", scale=0, min_width=320):
                inputs = _inputs(host)
            with gr.Column(elem_id="results", scale=1, min_width=320):
                results = _results()
        _wire(demo, do.Callbacks(host), inputs, results)
    return demo.queue(max_size=32, default_concurrency_limit=1)


def _inputs(host: ModelHost) -> Inputs:
    first = samples()[0]
    choices = [(entry.title, entry.name) for entry in samples()]
    sample = gr.Dropdown(choices, value=first.name, label=text.SAMPLE, elem_id="sample")
    document = gr.Textbox(
        first.document,
        label=text.DOCUMENT,
        placeholder=text.DOCUMENT_PLACEHOLDER,
        lines=9,
        max_lines=9,
        autoscroll=False,
        elem_id="document",
    )
    upload = gr.UploadButton(text.UPLOAD, file_types=[".txt", ".md"], size="sm", elem_id="upload")
    question = gr.Textbox(
        first.question,
        label=text.QUESTION,
        placeholder=text.QUESTION_PLACEHOLDER,
        lines=1,
        max_lines=4,
        elem_id="question",
    )
    with gr.Row(elem_id="budget"):
        rows = gr.Number(
            first.budget, label=text.ROWS, precision=0, step=16, scale=0, min_width=120, elem_id="rows"
        )
        with gr.Column(min_width=150, elem_id="share-side"):
            share = gr.Slider(1, 100, 11, step=1, label=text.SHARE, buttons=[], elem_id="share")
            note = gr.HTML(text.COUNTING, elem_id="note")
    with gr.Row(elem_id="act"):
        ask = gr.Button(text.ASK, variant="primary", scale=3, min_width=120, elem_id="ask")
        stop = gr.Button(text.STOP, interactive=False, scale=1, min_width=80, elem_id="stop")
    status = gr.HTML(loading_status(*host.progress), elem_id="status")
    with gr.Accordion(text.OPTIONS, open=False, elem_id="options"):
        methods = gr.CheckboxGroup(
            [(title, name) for name, (title, _) in text.METHODS.items()],
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
        length = gr.Slider(4, LONGEST_ANSWER, 24, step=4, label=text.LENGTH, buttons=[], elem_id="length")
        truncate = gr.Checkbox(False, label=text.TRUNCATE, elem_id="truncate")
    return Inputs(
        sample,
        document,
        upload,
        question,
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


def _results() -> Results:
    cards = gr.HTML(empty_cards(text.DEFAULT_METHODS), elem_id="cards")
    gr.HTML(f'<p class="fine">{text.COST_NOTE}</p>')
    gr.HTML(f'<h2 class="section">{text.MAP_TITLE}</h2>')
    empty = gr.HTML(f'<p class="blank">{text.MAP_EMPTY}</p>')
    with gr.Column(visible=False, elem_id="map") as panel:
        with gr.Row(elem_id="map-choice"):
            method = gr.Radio([], label=text.MAP_METHOD, elem_id="map-method", scale=3, min_width=240)
            layer = gr.Dropdown(
                [(text.ALL_LAYERS, -1)],
                value=-1,
                label=text.MAP_LAYER,
                elem_id="map-layer",
                scale=0,
                min_width=140,
            )
        document = gr.HTML(elem_id="map-document")
        gr.HTML(f'<h2 class="section">{text.HEATMAP_TITLE}</h2><p class="fine">{text.HEATMAP}</p>')
        heatmap = gr.Plot(show_label=False, container=False, elem_id="map-heatmap")
    return Results(cards, empty, panel, method, layer, document, heatmap)


def _wire(demo: gr.Blocks, reactions: do.Callbacks, inputs: Inputs, results: Results) -> None:
    run = gr.State(None, time_to_live=KEEP_STATE_S, delete_callback=do.close_run)
    counted = [inputs.note, inputs.share]

    demo.load(reactions.watch_loading, None, inputs.status, **QUEUED).then(
        reactions.count, [*inputs.prompt, inputs.rows], counted, **LIGHT
    )
    inputs.sample.input(
        do.choose_sample,
        inputs.sample,
        [inputs.document, inputs.question, inputs.rows, inputs.question_first],
        **LIGHT,
    )
    inputs.upload.upload(do.read_upload, inputs.upload, inputs.document, **QUEUED)
    gr.on(
        [inputs.document.change, inputs.question.change, inputs.truncate.change, inputs.rows.input],
        reactions.count,
        [*inputs.prompt, inputs.rows],
        counted,
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
    _wire_run(reactions, inputs, results, run)
    gr.on(
        [results.method.input, results.layer.input],
        do.show_map,
        [run, results.method, results.layer],
        [results.document, results.heatmap],
        **LIGHT,
    )
    for function in (reactions.ask, reactions.compare):
        gr.api(function, api_name=function.__name__, concurrency_id=MODEL, concurrency_limit=1)


def _wire_run(reactions: do.Callbacks, inputs: Inputs, results: Results, run: gr.State) -> None:
    shown, buttons, places = (
        [inputs.status, results.cards],
        [inputs.ask, inputs.stop],
        [results.empty, results.panel],
    )
    started = gr.on(
        [inputs.ask.click, inputs.question.submit],
        reactions.begin,
        inputs.task,
        [run, *shown, *buttons, *places],
        **QUEUED,
    )
    working = started.success(
        reactions.follow,
        run,
        [*shown, *places, results.method, results.layer, results.document, results.heatmap],
        concurrency_id=MODEL,
        concurrency_limit=1,
        **QUIET,
    )
    working.then(do.idle_buttons, None, buttons, **LIGHT)
    stopped = inputs.stop.click(reactions.stop, run, shown, cancels=[working], **LIGHT)
    stopped.then(do.idle_buttons, None, buttons, **LIGHT)


def launch(argv: list[str] | None = None) -> None:
    """Read the command line, open the page and load the model behind it."""
    parser = argparse.ArgumentParser(prog="app.py", description=text.LEAD)
    parser.add_argument(
        "--model", default=os.environ.get("JUDGEQ_MODEL", "smollm2-135m"), help="as in judgeq.load"
    )
    parser.add_argument(
        "--tokens", default=os.environ.get("JUDGEQ_TOKENS"), help="soft tokens: a folder or a Hub id"
    )
    parser.add_argument("--host", default=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
    options = parser.parse_args(argv)
    host = ModelHost(options.model, options.tokens)
    host.start()
    build(host).launch(
        server_name=options.host,
        server_port=options.port,
        theme=theme(),
        css=CSS,
        footer_links=["api"],
        run_history=False,  # it would keep pasted documents in the browser
        max_file_size="10mb",
        enable_monitoring=False,
        ssr_mode=False,
        share=False,
        show_error=True,
    )
