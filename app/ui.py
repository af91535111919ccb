"""The page: puts its parts together and wires a run through them. Owns no logic and no words."""

from __future__ import annotations

import argparse
import os

import gradio as gr

from app import callbacks as do
from app import text
from app.cards import empty_cards
from app.session import ModelHost
from app.style import CSS
from app.theme import theme
from app.views.events import LIGHT, MODEL, QUEUED, QUIET
from app.views.inputs import Inputs, build_inputs, wire_inputs
from app.views.kept import Kept, build_kept, wire_kept
from app.views.pins import Pins, build_pins
from app.views.sweep import build_sweep, wire_sweep

KEEP_STATE_S = 30 * 60


def build(host: ModelHost) -> gr.Blocks:
    """The whole page over one model."""
    reactions = do.Callbacks(host)
    with gr.Blocks(
        title=text.TITLE, analytics_enabled=False, fill_width=True, delete_cache=(3600, 3600)
    ) as demo:
        run = gr.State(None, time_to_live=KEEP_STATE_S, delete_callback=do.close_run)
        gr.HTML(
            f'<header class="head"><h1>{text.TITLE}</h1><p>{text.LEAD} <strong>{text.INVITATION}</strong></p></header>'
        )
        with gr.Row(elem_id="desk", equal_height=False):
            with gr.Column(elem_id="inputs", scale=0, min_width=320):
                inputs = build_inputs(host)
                pins = build_pins()
            with gr.Column(elem_id="results", scale=1, min_width=320):
                cards = gr.HTML(empty_cards(text.DEFAULT_METHODS), elem_id="cards")
                gr.HTML(f'<p class="fine">{text.COST_NOTE}</p>')
                kept = build_kept()
                sweep = build_sweep(KEEP_STATE_S)
        demo.load(reactions.watch_loading, None, inputs.status, **QUEUED).then(
            reactions.count, [*inputs.prompt, inputs.rows], [inputs.note, inputs.share], **LIGHT
        )
        wire_inputs(reactions, inputs)
        wire_kept(kept, run)
        wire_sweep(host, sweep, inputs)
        _wire_run(reactions, inputs, pins, cards, kept, run)
        for function in (reactions.ask, reactions.compare):
            gr.api(function, api_name=function.__name__, concurrency_id=MODEL, concurrency_limit=1)
    return demo.queue(max_size=32, default_concurrency_limit=1)


def _wire_run(
    reactions: do.Callbacks, inputs: Inputs, pins: Pins, cards: gr.HTML, kept: Kept, run: gr.State
) -> None:
    shown, buttons = [inputs.status, cards], [inputs.ask, inputs.stop]
    started = gr.on(
        [inputs.ask.click, inputs.question.submit],
        reactions.begin,
        [*inputs.task, *pins.fields],
        [run, *shown, *buttons, *kept.places],
        **QUEUED,
    )
    working = started.success(
        reactions.follow, run, [*shown, *kept.shown], concurrency_id=MODEL, concurrency_limit=1, **QUIET
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
