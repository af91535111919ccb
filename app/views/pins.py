"""What must stay and what must go: two fields that take pieces of the document's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import text


@dataclass(frozen=True)
class Pins:
    """The two fields, a piece of the document a line."""

    stay: gr.Textbox
    go: gr.Textbox

    @property
    def fields(self) -> list[Any]:
        """Inputs of a run, behind those of `Inputs.task`."""
        return [self.stay, self.go]


def build_pins() -> Pins:
    """Two empty fields, folded away."""
    with gr.Accordion(text.PINS, open=False, elem_id="pins"):
        gr.HTML(f'<p class="fine">{text.PINS_LEAD}</p>')
        stay = gr.Textbox(
            "",
            label=text.PIN_STAY,
            placeholder=text.PIN_PLACEHOLDER,
            lines=2,
            max_lines=6,
            elem_id="pin-stay",
        )
        go = gr.Textbox(
            "", label=text.PIN_GO, placeholder=text.PIN_PLACEHOLDER, lines=2, max_lines=6, elem_id="pin-go"
        )
    return Pins(stay, go)
