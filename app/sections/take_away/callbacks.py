"""What a visitor takes along after a run: files made on demand, never written to the disk. Knows nothing of Gradio."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from app import text
from app.server.run import Run
from app.server.samples import sample_of
from judgeq.errors import InputError
from judgeq.export import Comparison, Settings


@dataclass(frozen=True)
class Kind:
    """A file format: its extension, its media type, and how it is made."""

    ending: str
    media: str
    make: Callable[[Comparison], str | bytes]


KINDS = {
    "page": Kind("html", "text/html", Comparison.to_html),
    "picture": Kind("png", "image/png", Comparison.to_png),
    "table": Kind("csv", "text/csv", Comparison.to_csv),
    "values": Kind("json", "application/json", lambda found: json.dumps(found.to_json(), ensure_ascii=False)),
}


def comparison_of(run: Run | None) -> Comparison:
    """The answers of a run so far.

    Raises:
        InputError: no answer has ended yet, or it was evicted to make room for others.
    """
    answers = [lane.answer for lane in run.look().lanes if lane.answer is not None] if run else []
    if run is None or not answers:
        raise InputError(text.NOTHING_TO_TAKE)
    return Comparison(run.task.question, settings_of(run), answers, run.began or datetime.now(UTC))


def settings_of(run: Run) -> Settings:
    """What `judgeq` needs to repeat a run."""
    task, tokens = run.task, run.host.tokens_name
    found = sample_of(task.document)
    answer = next((lane.answer for lane in run.lanes if lane.answer), None)
    model, precision = (answer.model, answer.precision) if answer else (run.host.name, "")
    if task.own_tokens:
        tokens = task.own_tokens.name
    return Settings(
        model=model,
        methods=task.methods,
        budget=task.budget,
        question_first=task.question_first,
        truncate=bool(task.truncate),
        max_new_tokens=task.max_new_tokens,
        answer_prefix=task.answer_prefix,
        quantization=run.quantization,
        dtype=_dtype(run, precision.rpartition(", ")[2]),
        tokens=None if tokens is None else str(tokens),
        file=f"assets/samples/{found.name}.txt" if found else "document.txt",
    )


def _dtype(run: Run, computed: str) -> str | None:
    """The number type, where `judgeq.load` would not choose it by itself."""
    lm = run.host.ready
    usual = computed == "float32" and (lm is None or lm.device.type == "cpu")
    return None if usual or not run.host.dtype else computed or None


def file_of(run: Run | None, kind: str) -> dict[str, str]:
    """A file as the page hands it to the browser: `name`, `type`, and `data` in Base64.

    Raises:
        InputError: no answer yet, or no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"There is no format {kind!r} to export: choose one of {', '.join(KINDS)}")
    comparison, form = comparison_of(run), KINDS[kind]
    made = form.make(comparison)
    data = made if isinstance(made, bytes) else made.encode("utf-8", "replace")
    words = re.findall(r"[a-z0-9]+", comparison.question.lower())
    name = "-".join(["judgeq", *words])[:48].rstrip("-")
    return {"name": f"{name}.{form.ending}", "type": form.media, "data": base64.b64encode(data).decode()}
