"""Mistakes as the page shows them."""

from __future__ import annotations

import html

import gradio as gr

from judgeq.errors import JudgeqError
from judgeq.look.format import visible


def shown(error: JudgeqError) -> gr.Error:
    """An error as the page shows it."""
    # a toast is HTML, and sentences may name what a visitor brought
    return gr.Error(html.escape(visible(str(error)), quote=False), duration=15, print_exception=False)


def noticed(sentence: str) -> None:
    """A sentence that the page shows beside what it goes on to do."""
    gr.Warning(html.escape(visible(sentence), quote=False), duration=15)
