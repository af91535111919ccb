"""The page: composes the sections and connects their events to a run. Owns no logic and no text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi.routing import APIRoute

from app import error_page, text, uploads
from app.documents import StoredDocuments
from app.endpoints import Endpoints
from app.request_checks import Page, unknown_event
from app.sections.ask import callbacks as do
from app.sections.ask.answers import Answers, build_answers
from app.sections.ask.inputs import Inputs, build_inputs, wire_inputs
from app.sections.calculator.view import build_calculator, wire_calculator
from app.sections.calibrate.view import Calibrate, wire_calibrate
from app.sections.events import LIGHT, QUEUED
from app.sections.kept.view import LAST, Kept, wire_kept
from app.sections.models.view import Models, wire_models
from app.sections.pins.view import Pins, wire_pins
from app.sections.sweep.view import Sweep, wire_sweep
from app.sections.take_away.view import Takeaway, wire_takeaway
from app.sections.train.view import build_train
from app.server.host import ModelHost
from app.server.limits import KEEP_FILES_S, KEEP_STATE_S, LARGEST_REQUEST
from app.server.own_tokens import LARGEST_FILE
from app.style.stylesheet import CSS
from app.style.theme import theme

EVENTS_PER_RUN = 4


def build(
    host: ModelHost,
    models_allowed: bool = False,
    train_in: Path | None = None,
    documents: StoredDocuments | None = None,
) -> gr.Blocks:
    """The whole page over one model, which visitors may change only if that is allowed.

    Args:
        train_in: soft tokens may be trained from the page, each in a folder in this one; None = not at all.
        documents: of a folder, about which programs may ask.
    """
    reactions = do.Callbacks(host)
    with Page(
        title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(KEEP_FILES_S, KEEP_FILES_S)
    ) as demo:
        run = gr.State(None, time_to_live=KEEP_STATE_S, delete_callback=do.close_run)
        gr.HTML(
            f'<header class="head"><h1>{text.TITLE}</h1><p>{text.LEAD} <strong>{text.INVITATION}</strong></p></header>'
        )
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(elem_id="inputs", scale=0, min_width=320):
                inputs = build_inputs(host)
                pins = Pins()
                models = Models(host, models_allowed, train_in is not None)
            with gr.Column(elem_id="results", scale=1, min_width=320):
                answers = build_answers()
                kept = Kept()
                sweep = Sweep(KEEP_STATE_S)
                calibrate = Calibrate(KEEP_STATE_S)
                trained = build_train(demo, host, train_in) if train_in else None
                take = Takeaway()
                sums = build_calculator()
        opened = demo.load(reactions.open, None, [run, answers.cards, *kept.shown], **LIGHT)
        loaded = demo.load(reactions.watch_loading, None, inputs.status, **QUEUED)
        loaded.then(reactions.count, [*inputs.prompt, inputs.rows], [inputs.note, inputs.share], **LIGHT)
        wire_inputs(reactions, inputs, loaded)
        drawn = wire_kept(kept, run)
        wire_pins(pins, kept)
        pickers = [inputs.methods, sweep.methods, calibrate.method]
        for known in (loaded, *wire_models(host, models, inputs.status), *([trained] if trained else [])):
            known.then(reactions.stand_in, pickers, pickers, **LIGHT)
        ends = _wire_run(reactions, inputs, pins, models, answers, kept, run)
        lights = [run, kept.layer, kept.query_head], [answers.cards, kept.query_head]
        for shown in (drawn, *ends):
            shown.success(do.light_layer, *lights, **QUEUED)
        kept.query_head.input(do.light_layer, *lights, **QUEUED, **LAST)
        wire_sweep(host, sweep, inputs)
        wire_calibrate(host, calibrate, inputs)
        wire_calculator(sums)
        wire_takeaway(demo, take, inputs, run, [opened, *ends])
        Endpoints(host, documents).add()
    # Gradio's queue also holds light events (counting, maps): several for each run that may wait in `host.turns`
    return demo.queue(max_size=EVENTS_PER_RUN * host.limits.waiting, default_concurrency_limit=1)


def _wire_run(
    reactions: do.Callbacks,
    inputs: Inputs,
    pins: Pins,
    models: Models,
    answers: Answers,
    kept: Kept,
    run: gr.State,
) -> list[Any]:
    """Returns the events after which a run has ended."""
    shown, buttons = [inputs.status, answers.cards], [inputs.ask, answers.ask, inputs.stop]
    task = {
        "inputs": [*inputs.task, run, models.own, *pins.fields, *inputs.beginning],
        "outputs": [run, *shown, *buttons, *kept.places],
        **QUEUED,
    }
    asked = gr.on([inputs.ask.click, inputs.question.submit], reactions.begin, **task)
    taken = gr.on(
        [answers.ask.click, answers.question.submit],
        do.take_over,
        answers.question,
        [inputs.question, answers.question],
        **QUEUED,
    )
    working = [
        started.success(reactions.follow, run, [*shown, *kept.shown], **QUEUED)
        for started in (asked, taken.success(reactions.begin, **task))
    ]
    for work in working:
        for ended in (
            work.then,
            work.failure,
        ):  # Gradio 6.31: what follows with `then` is left out after an error
            ended(do.idle_buttons, None, buttons, **LIGHT)
    stopped = inputs.stop.click(reactions.stop, run, shown, cancels=working, **LIGHT)
    stopped.then(do.idle_buttons, None, buttons, **LIGHT)
    return [*working, stopped]


def serve(demo: gr.Blocks, routes: Sequence[APIRoute] = (), **where: Any) -> None:
    """Open the page and the endpoints, and more `routes`; `where` as in `gr.Blocks.launch`."""
    demo.launch(
        **where,
        theme=theme(),
        css=CSS,
        footer_links=["api"],
        run_history=False,  # it would keep pasted documents in the browser
        max_file_size=LARGEST_FILE,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=True,
        app_kwargs={
            "routes": [*uploads.ROUTES, *error_page.ROUTES, *routes],
            "exception_handlers": {KeyError: unknown_event},
            "max_body_size": LARGEST_REQUEST,
        },
        max_threads=96,  # waiting runs poll in threads of their own, and must not block the page
        state_session_capacity=200,  # each keeps its last run with its maps
        share=False,
        num_workers=0,  # they would take uploads in their own way
        show_error=True,
    )
