"""The calculator: memory on other models and GPUs, separate from everything that is measured."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import text
from app.sections.calculator import callbacks as calculator
from app.sections.events import LIGHT
from judgeq.errors import InputError

FIRST = calculator.Setting("llama-3.1-8b", tokens=16_384, rows=1_024, memory=24)


def build_calculator() -> list[Any]:
    """The components; returns the inputs, in the order of `calculator.setting`, and the result."""
    bits = [(f"{count} bits", count) for count in (16, 8, 4)]
    with gr.Accordion(text.CALCULATOR_TITLE, open=False, elem_id="calculator"):
        gr.HTML(f'<p class="fine">{text.CALCULATOR}</p>')
        with gr.Row(elem_id="calculator-inputs"):
            model = gr.Dropdown(
                [(title, name) for name, title in calculator.MODELS.items()],
                value=FIRST.model,
                label=text.CALCULATOR_MODEL,
                min_width=200,
            )
            tokens = gr.Number(FIRST.tokens, label=text.CALCULATOR_TOKENS, precision=0, minimum=1, min_width=130)
            rows = gr.Number(FIRST.rows, label=text.CALCULATOR_ROWS, precision=0, minimum=1, min_width=130)
            row_bits = gr.Dropdown(bits, value=16, label=text.CALCULATOR_ROW_BITS, min_width=130)
            weight_bits = gr.Dropdown(bits, value=16, label=text.CALCULATOR_WEIGHTS, min_width=130)
            memory = gr.Number(FIRST.memory, label=text.CALCULATOR_MEMORY, minimum=1, min_width=130)
        shown = gr.HTML(calculator.table(FIRST), elem_id="calculated")
    return [model, tokens, rows, row_bits, weight_bits, memory, shown]


def wire_calculator(parts: list[Any]) -> None:
    """Every change calculates anew."""
    *inputs, shown = parts
    gr.on([each.change for each in inputs], calculate, inputs, shown, trigger_mode="always_last", **LIGHT)


def calculate(*values: Any) -> str:
    """The result for the page's input, or an error message."""
    try:
        return calculator.table(calculator.setting(*values))
    except InputError as error:
        return calculator.problem(error)
