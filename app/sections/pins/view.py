"""What must be kept and what must be evicted: two fields that take pieces of the document's text."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import text
from app.sections.events import QUEUED
from app.sections.kept.view import Kept
from app.style.toasts import errors_shown, told
from judgeq.config import check_text
from judgeq.errors import InputError


class Pins:
    """The two fields, one piece of the document per line."""

    def __init__(self) -> None:
        """Builds them, empty and collapsed."""
        with gr.Accordion(text.PINS, open=False, elem_id="pins") as self.part:
            gr.HTML(f'<p class="fine">{text.PINS_LEAD}</p>')
            self.stay = gr.Textbox(
                "",
                label=text.PIN_STAY,
                placeholder=text.PIN_PLACEHOLDER,
                lines=2,
                max_lines=6,
                elem_id="pin-stay",
            )
            self.go = gr.Textbox(
                "",
                label=text.PIN_GO,
                placeholder=text.PIN_PLACEHOLDER,
                lines=2,
                max_lines=6,
                elem_id="pin-go",
            )

    @property
    def fields(self) -> list[Any]:
        """Inputs of a run, after those of `Inputs.task`."""
        return [self.stay, self.go]


def wire_pins(pins: Pins, kept: Kept) -> None:
    """Words that are selected in the document become a line of a field."""
    for button, field in ((kept.stay, pins.stay), (kept.go, pins.go)):
        button.click(add_piece, [kept.span, field], [field, pins.part], **QUEUED)


@errors_shown()
def add_piece(words: str, pieces: str) -> tuple[str, Any]:
    """The field with one more line, and its accordion open.

    Raises:
        gr.Error: there are no words, or text that cannot be read.
    """
    check_text("piece", (words or "") + (pieces or ""))
    piece = " ".join((words or "").split())
    if not piece:
        raise InputError(text.NO_SPAN)
    told(text.SPAN_PINNED)
    lines = [line for line in (pieces or "").splitlines() if line.strip()]
    return "\n".join([*lines, *([] if piece in lines else [piece])]), gr.update(open=True)
