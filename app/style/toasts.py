"""Errors and notices as Gradio sends them: to the page as HTML, and for how long, to programs as plain text."""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from judgeq.errors import JudgeqError
from judgeq.look.format import visible

SHOWN_S = 15


def shown(error: JudgeqError) -> gr.Error:
    """An error as the page shows it; its code links to `app.error_page`."""
    # a toast is HTML, and messages may quote what a visitor typed
    said = html.escape(visible(str(error)), quote=False)
    if error.code:
        said += f' <a href="errors#{error.code.lower()}" target="_blank">{error.code}</a>'
    return gr.Error(said, duration=SHOWN_S, print_exception=False)


def sent(error: JudgeqError) -> gr.Error:
    """An error as a program receives it: plain text, not HTML, with its code in brackets."""
    return gr.Error(error.with_code, print_exception=False)


@contextmanager
def errors_shown() -> Iterator[None]:
    """Within, or in a function that this decorates, errors that a person can fix are raised as the page shows them."""
    try:
        yield
    except JudgeqError as error:
        raise shown(error) from None


@contextmanager
def errors_sent() -> Iterator[None]:
    """As `errors_shown`, for programs."""
    try:
        yield
    except JudgeqError as error:
        raise sent(error) from None


def told(sentence: str) -> None:
    """Show that something is done, in words of `app.text`."""
    gr.Info(sentence, duration=SHOWN_S)


def noticed(sentence: str) -> None:
    """Show a warning; the page continues with what it was doing."""
    gr.Warning(html.escape(visible(sentence), quote=False), duration=SHOWN_S)
