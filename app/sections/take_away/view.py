"""Export: files, a link and Python code after a run; and settings from a link when the page opens.

A file is sent inside the event and saved by the visitor's browser: it is never on the server's disk.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from app import text
from app.sections.ask.inputs import Inputs
from app.sections.events import LIGHT, QUEUED, QUIET
from app.sections.take_away import callbacks as takeaway
from app.sections.take_away.link import Restored, link_of, restored
from app.server.run import Run
from app.style.toasts import errors_shown, noticed, told
from judgeq.errors import InputError

SAVE = """(file) => {
  if (!file) return null;
  const bytes = Uint8Array.from(atob(file.data), (char) => char.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type: file.type }));
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  return null;
}"""
"""Hands a file to the browser as a download."""
FILES: dict[str, Any] = {**QUIET, "concurrency_id": "files", "concurrency_limit": 2}
"""Files of long documents take a second each: a few at once, so that answers are not slowed down."""
ADDRESS = "(fragment) => `${location.origin}${location.pathname}#${fragment}`"
AFTER_HASH = "() => location.hash.slice(1)"


class Takeaway:
    """Everything below the map that is exported."""

    def __init__(self) -> None:
        """Builds the components, hidden until there is something to export."""
        with gr.Column(visible=False, elem_id="takeaway") as self.panel:
            gr.HTML(f'<h2 class="section">{text.TAKE_TITLE}</h2><p class="fine">{text.TAKE}</p>')
            with gr.Row(elem_id="takeaway-files"):
                self.buttons = {
                    kind: gr.Button(title, size="md", scale=0, min_width=120, elem_id=f"take-{kind}")
                    for kind, title in text.TAKE_KINDS.items()
                }
            self.link = gr.Textbox(
                label=text.TAKE_LINK,
                info=text.TAKE_LINK_INFO,
                interactive=False,
                lines=1,
                max_lines=1,
                buttons=["copy"],
                elem_id="take-link",
            )
            with gr.Accordion(text.TAKE_PYTHON, open=False, elem_id="take-python"):
                self.python = gr.Code(
                    language="python", interactive=False, show_label=False, wrap_lines=True, buttons=["copy"]
                )
        self.file = gr.JSON(visible=False)


def wire_takeaway(demo: gr.Blocks, part: Takeaway, inputs: Inputs, run: gr.State, ends: list[Any]) -> None:
    """Fill the part when a run has ended, make files on demand, and read a link when the page opens.

    Args:
        ends: events after which a run has ended.
    """
    for end in ends:
        end.then(offer, run, [part.panel, part.link, part.python], **LIGHT).then(
            None, part.link, part.link, js=ADDRESS, **LIGHT
        )
    for kind, button in part.buttons.items():
        button.click(lambda ended, kind=kind: make_file(ended, kind), run, part.file, **FILES).success(
            None, part.file, part.file, js=SAVE, **LIGHT
        )
    demo.load(
        restore,
        part.link,
        [
            inputs.sample,
            inputs.document,
            inputs.question,
            inputs.rows,
            inputs.methods,
            inputs.question_first,
            inputs.truncate,
            inputs.length,
            inputs.prefix,
            inputs.proposed_for,
        ],
        js=AFTER_HASH,
        **QUEUED,
    )


def offer(run: Run | None) -> tuple[Any, ...]:
    """Panel, link and Python code; hidden while there is nothing to export."""
    try:
        lines = takeaway.comparison_of(run).to_python()
    except InputError:
        return gr.update(visible=False), gr.skip(), gr.skip()
    return gr.update(visible=True), link_of(run.task) if run else "", lines


@errors_shown()
def make_file(run: Run | None, kind: str) -> dict[str, str]:
    """A file for the browser.

    Raises:
        gr.Error: there is nothing to export yet.
    """
    return takeaway.file_of(run, kind)


def restore(fragment: str | None) -> tuple[Any, ...]:
    """Sample, document, question, rows, methods, question-first, truncate, longest answer and answer prefix of a link.

    The last value is the question again, for which no beginning is proposed.
    """
    found = restored(fragment)
    if found is None:
        return (gr.skip(),) * 10
    if found.ignored:
        noticed(text.LINK_IGNORED.format(names=text.join(list(found.ignored))))
    if found == Restored(ignored=found.ignored):
        return (gr.skip(),) * 10
    if found.sample is None:
        told(text.LINK_NO_DOCUMENT)
    return (
        found.sample.name if found.sample else None,
        found.sample.document if found.sample else "",
        _or_skip(found.question),
        _or_skip(found.rows),
        gr.skip() if found.methods is None else list(found.methods),
        found.question_first,
        found.truncate,
        _or_skip(found.max_new_tokens),
        found.answer_prefix,
        _or_skip(found.question),
    )


def _or_skip(value: Any) -> Any:
    return gr.skip() if value is None else value
