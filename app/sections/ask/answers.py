"""The answers side by side, and a field for the next question about the same document."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from app import text
from app.sections.ask.cards import empty_cards
from judgeq.look.pages import script

SCRIPT = str(script("glow")) + Path(__file__).with_name("answers.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Answers:
    """The answer cards, and the field for the next question."""

    cards: gr.HTML
    question: gr.Textbox
    ask: gr.Button


def build_answers() -> Answers:
    """The components, with cards that wait."""
    cards = gr.HTML(empty_cards(text.DEFAULT_METHODS), elem_id="cards", js_on_load=SCRIPT)
    with gr.Row(elem_id="again"):
        question = gr.Textbox(
            label=text.AGAIN,
            placeholder=text.AGAIN_PLACEHOLDER,
            lines=1,
            max_lines=4,
            scale=1,
            elem_id="again-question",
        )
        ask = gr.Button(text.AGAIN_BUTTON, scale=0, min_width=120, elem_id="ask-again")
    gr.HTML(f'<p class="fine">{text.COST_NOTE}</p>')
    return Answers(cards, question, ask)
