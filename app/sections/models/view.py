"""Choice of the model and of the soft tokens.

All visitors share the model, so only an operator can allow changing it; soft tokens belong to one visitor.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import gradio as gr

from app import text
from app.sections.ask.cards import error_status, idle_status, loading_status
from app.sections.ask.files import upload_button
from app.sections.events import QUEUED, QUIET
from app.server import models, own_tokens
from app.server.host import ModelHost
from judgeq.errors import JudgeqError

TICK = 0.3
"""Seconds between two updates while a model is loaded."""


class Models:
    """The components; what changes the model and what names repositories of the Hub only where that is allowed."""

    def __init__(self, host: ModelHost, allowed: bool, trains: bool = False) -> None:
        """Builds them.

        Args:
            allowed: visitors may change the model.
            trains: the page trains soft tokens, too.
        """
        self.allowed = allowed
        # no limit of time: the page says that they are in use
        self.own = gr.State(None, delete_callback=host.shelf.drop)
        with gr.Accordion(text.MODELS_TITLE, open=False, elem_id="models"):
            if allowed:
                self._build_choice(host, trains)
            gr.HTML(f'<p class="fine">{text.TOKENS_INFO}</p>')
            with gr.Row(elem_id="token-buttons"):
                self.files = upload_button(
                    text.TOKENS_UPLOAD,
                    [".json", ".safetensors"],
                    file_count="multiple",
                    elem_id="token-files",
                )
                self.shipped = gr.Button(text.TOKENS_SHIPPED, size="sm", visible=False, elem_id="token-shipped")
            if allowed:
                self.hub_id = gr.Textbox(
                    label=text.TOKENS_HUB, placeholder="owner/name", lines=1, max_lines=1, elem_id="token-hub"
                )
                self.take = gr.Button(text.TOKENS_TAKE, size="sm", elem_id="token-take")
            self.in_use = gr.HTML(_in_use(text.TOKENS_NONE), elem_id="token-told")

    def _build_choice(self, host: ModelHost, trains: bool) -> None:
        machine = models.Machine.here()
        bits = [(text.PRECISIONS[each].capitalize(), each or "") for each in models.precisions()]
        cost = text.PRECISION_GPU if machine.gpu else text.PRECISION_CPU
        gr.HTML(f'<p class="fine">{html.escape(str(machine))} {text.MODELS_INFO}</p>')
        self.name = gr.Dropdown(
            models.choices(machine, [host.first[0]]),
            value=host.name,
            allow_custom_value=True,
            label=text.MODELS_NAME,
            info=text.MODELS_NAME_INFO,
            elem_id="model-name",
        )
        hint = gr.HTML(_hint(host.name, trains), elem_id="model-hint")
        self.name.change(lambda chosen: _hint(chosen, trains), self.name, hint, **QUEUED)
        self.precision = gr.Radio(bits, value="", label=text.PRECISION, info=cost, elem_id="model-precision")
        self.load = gr.Button(text.MODELS_LOAD, size="sm", elem_id="model-load")


def wire_models(host: ModelHost, part: Models, status: gr.HTML) -> list[Any]:
    """Changing the model, and bringing soft tokens; returns the events after which the model may be another.

    Args:
        status: where the page says what it does.
    """
    taken = [part.own, part.in_use, part.shipped]

    def upload(paths: list[str] | None, before: str | None) -> tuple[Any, ...]:
        return _taken(host, before, lambda: own_tokens.from_upload(paths or [], host.model()))

    def take(name: str, before: str | None) -> tuple[Any, ...]:
        return _taken(host, before, lambda: own_tokens.from_hub(name or "", host.model()))

    def shipped(before: str | None) -> tuple[Any, ...]:
        host.shelf.drop(before)
        return None, _in_use(text.TOKENS_NONE), gr.update(visible=False)

    def load(name: str, precision: str) -> Iterator[str]:
        yield from change_model(host, name, precision)

    part.files.upload(upload, [part.files, part.own], taken, **QUEUED)
    part.shipped.click(shipped, part.own, taken, **QUEUED)
    if not part.allowed:
        return []
    gr.on([part.take.click, part.hub_id.submit], take, [part.hub_id, part.own], taken, **QUEUED)
    return [part.load.click(load, [part.name, part.precision], status, concurrency_limit=1, **QUIET)]


def change_model(host: ModelHost, name: str, precision: str) -> Iterator[str]:
    """Load another model for all visitors; yields status lines, the last of which says how it ended."""
    try:
        chosen = models.check_name(name, [host.first[0]])
    except JudgeqError as error:
        yield error_status(str(error))
        return
    switch = models.Switch(host, chosen, precision or None)
    try:
        line = loading_status(text.MODELS_LOADING.format(name=chosen), None)
        yield line
        while not switch.finished.wait(TICK):
            yield line  # a page that is closed meanwhile is noticed here
    finally:
        switch.cancel()
    if switch.error is None:
        yield idle_status(host.name)
    else:
        yield error_status(text.MODELS_KEPT.format(reason=str(switch.error).rstrip("."), name=host.name))


def _taken(host: ModelHost, before: str | None, read: Any) -> tuple[Any, ...]:
    """Key, sentence, and the button back to the shipped ones; nothing changes where they cannot be read."""
    try:
        own = read()
    except JudgeqError as error:
        return gr.skip(), error_status(str(error)), gr.skip()
    host.shelf.drop(before)
    line = text.TOKENS_OWN.format(n=own.tokens.n, model=own.tokens.config.base_model)
    return host.shelf.put(own), _in_use(line), gr.update(visible=True)


def _hint(name: Any, trains: bool) -> str:
    """What a model that is chosen can do; nothing for what is no name."""
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        return ""
    said, command = models.at_once(name, trains)
    code = f" <code>{html.escape(command)}</code>" if command else ""
    return f'<p class="fine">{html.escape(said)}{code}</p>'


def _in_use(line: str) -> str:
    return f'<p class="fine" role="status">{html.escape(line)}</p>'
