"""Errors and warnings as Gradio sends them: to the page as HTML, to programs as plain text."""

from __future__ import annotations

import html

import gradio as gr

from judgeq.errors import JudgeqError
from judgeq.look.format import visible


def shown(error: JudgeqError) -> gr.Error:
    """An error as the page shows it; its code links to `app.error_page`."""
    # a toast is HTML, and messages may quote what a visitor typed
    said = html.escape(visible(str(error)), quote=False)
    if error.code:
        said += f' <a href="errors#{error.code.lower()}" target="_blank">{error.code}</a>'
    return gr.Error(said, duration=15, print_exception=False)


def sent(error: JudgeqError) -> gr.Error:
    """An error as a program receives it: plain text, not HTML, with its code in brackets."""
    return gr.Error(error.with_code, print_exception=False)


def noticed(sentence: str) -> None:
    """Show a warning; the page continues with what it was doing."""
    gr.Warning(html.escape(visible(sentence), quote=False), duration=15)
