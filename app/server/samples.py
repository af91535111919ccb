"""The sample documents in `assets/samples`: what they are, what to ask them, what a right answer contains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from judgeq._assets import assets_path


@dataclass(frozen=True)
class Sample:
    """A document with a question that the embedded model answers with the full cache.

    Attributes:
        name: of its file, without `.txt`.
        title: for people.
        question, answer: `answer` is contained in a right answer.
        source, licence: where the text comes from.
        budget: rows at which the methods differ.
        question_first: whether the question goes before the document.
        look: what goes wrong here without some rows, and where to see it.
        answer_prefix: what the answers continue.
        document: the text.
    """

    name: str
    title: str
    question: str
    answer: str
    source: str
    licence: str
    budget: int
    question_first: bool
    document: str
    look: str
    answer_prefix: str = ""


@cache
def samples() -> tuple[Sample, ...]:
    """All samples in the order of `index.json`."""
    index = json.loads(assets_path("samples", "index.json").read_text(encoding="utf-8"))
    return tuple(
        Sample(
            **entry,
            document=assets_path("samples", f"{entry['name']}.txt").read_text(encoding="utf-8").strip(),
        )
        for entry in index
    )


def sample(name: str) -> Sample:
    """One sample by name; raises `KeyError`."""
    return {entry.name: entry for entry in samples()}[name]


def sample_of(document: str) -> Sample | None:
    """The sample that a text is, if it is one."""
    return next((entry for entry in samples() if entry.document == document.strip()), None)


def expected_answer(document: str, question: str) -> str:
    """What a right answer contains if this is a sample with its own question, else an empty string."""
    found = sample_of(document)
    return found.answer if found and found.question == question.strip() else ""
