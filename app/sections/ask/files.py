"""Below the document: a button that takes files, the same by dropping one on the document, and the prompt's length."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from app import text
from app.sections.ask.cards import length_line, reading_line
from app.sections.events import LIGHT, QUIET
from app.server.host import ModelHost
from app.server.samples import sample_of
from app.style.toasts import noticed, shown
from judgeq.errors import JudgeqError
from judgeq.prompts.read_file import SUFFIXES, read_and_delete

READERS = {**QUIET, "concurrency_limit": 2, "concurrency_id": "files"}
"""A malicious file can keep a core busy for half a minute: never more than two at once."""

DROP = Path(__file__).with_name("drop.js").read_text(encoding="utf-8").strip()
"""A file dropped on the document is handled like one chosen with the button."""


@dataclass(frozen=True)
class Files:
    """The button and the line."""

    upload: gr.UploadButton
    length: gr.HTML


def build_files(host: ModelHost) -> Files:
    """The components, under the document."""
    length = gr.HTML(length_line(host, "", "", False, 0), elem_id="prompt-length")
    return Files(upload_button(text.UPLOAD, list(SUFFIXES), elem_id="upload"), length)


def upload_button(title: str, endings: list[str], **how: Any) -> gr.UploadButton:
    """A button for files, whose paths are handed on as they are.

    Gradio's own way leaves an empty file for each upload, and the upload itself if its name ends otherwise.
    """
    button = gr.UploadButton(title, file_types=endings, size="sm", **how)
    button._process_single_file = lambda sent: sent.path
    return button


def wire_files(
    files: Files,
    host: ModelHost,
    loaded: gr.events.Dependency,
    document: gr.Textbox,
    sample: gr.Dropdown,
    rest: list[Any],
) -> None:
    """Reading a file; on every change measuring, and saying whether the text is still a sample's.

    Args:
        loaded: the model is loaded, or cannot be.
        sample: names the sample that the document is; empty for a text of the visitor's own.
        rest: question, truncate and the longest answer, which the length depends on too.
    """

    def measure(named: str | None, written: str, *values: Any) -> tuple[str, Any]:
        found = sample_of(written or "")
        name = found.name if found else None
        line = length_line(host, written, *values)
        return line, gr.skip() if name == named else gr.update(value=name, info=found.look if found else "")

    measured = {
        "fn": measure,
        "inputs": [sample, document, *rest],
        "outputs": [files.length, sample],
        **LIGHT,
    }
    begun = files.upload.upload(reading_line, None, files.length, **LIGHT)
    read = begun.then(read_upload, files.upload, document, **READERS)
    for ended in (
        read.then,
        read.failure,
    ):  # Gradio 6.31: what follows with `then` is left out after an error
        ended(**measured)
    loaded.then(**measured)
    gr.on([document.change, *(each.change for each in rest)], trigger_mode="always_last", **measured)
    gr.on(None, None, js=DROP, **QUIET)


def read_upload(path: str) -> str:
    """The text of an uploaded file, which is deleted afterwards.

    Raises:
        gr.Error: it cannot be read.
    """
    try:
        return read_and_delete(path, Path(get_upload_folder()), noticed)
    except JudgeqError as error:
        raise shown(error) from None
