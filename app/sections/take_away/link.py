"""A link of settings: what it carries, and what is taken from one.

It carries the question and the settings in the part of an address that browsers never send, and no document beyond a
sample's name. What comes from a link is untrusted. Knows nothing of Gradio.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from app.server.samples import Sample, sample_of, samples
from app.server.task import Task
from judgeq.config import check_budget, check_text
from judgeq.errors import InputError
from judgeq.methods import METHODS

LONGEST_LINK, LONGEST_QUESTION, MOST_FIELDS = 6_000, 2_000, 16
ANSWER_TOKENS = range(4, 257)
MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Restored:
    """Settings from a link; None where it has none, or an invalid one."""

    sample: Sample | None = None
    question: str | None = None
    rows: int | None = None
    methods: tuple[str, ...] | None = None
    question_first: bool = False
    truncate: bool = False
    max_new_tokens: int | None = None
    answer_prefix: str = ""
    ignored: tuple[str, ...] = field(default=())


def link_of(task: Task) -> str:
    """The part of an address after `#` that restores a task's settings."""
    found = sample_of(task.document)
    values: dict[str, Any] = {
        "sample": found.name if found else None,
        "question": task.question.strip()[:LONGEST_QUESTION],
        "rows": task.budget,
        "methods": ",".join(task.methods),
        "first": 1 if task.question_first else None,
        "cut": 1 if task.truncate else None,
        "longest": task.max_new_tokens,
        "begin": task.answer_prefix or None,
    }
    return urlencode({name: value for name, value in values.items() if value is not None})


def restored(fragment: object) -> Restored | None:
    """Settings from the part of an address after `#`; None if it is not a link of this page. Never raises."""
    if not isinstance(fragment, str) or "question=" not in fragment:
        return None
    try:
        if len(fragment) > LONGEST_LINK:
            raise ValueError
        given = dict(parse_qsl(fragment.removeprefix("#"), max_num_fields=MOST_FIELDS))
    except ValueError:
        return Restored(ignored=("link",))
    found: dict[str, Any] = {}
    ignored = []
    for name, (place, read) in _FIELDS.items():
        if name in given:
            try:
                found[place] = read(given[name])
            except (InputError, ValueError, KeyError):
                ignored.append(name)
    ignored.extend(sorted(_printable(name) for name in given.keys() - _FIELDS.keys()))
    return Restored(**found, ignored=tuple(ignored))


def _sample(value: str) -> Sample:
    return {entry.name: entry for entry in samples()}[value]


def _question(value: str) -> str:
    if not check_text("question", value).strip() or len(value) > LONGEST_QUESTION or "\0" in value or "\ufffd" in value:
        raise ValueError
    return value


def _rows(value: str) -> int:
    return int(check_budget(_within(value, range(1, MOST_ROWS + 1))))


def _methods(value: str) -> tuple[str, ...]:
    asked = value.split(",")
    if not set(asked) <= set(METHODS):
        raise ValueError
    return tuple(name for name in METHODS if name in asked)


def _longest(value: str) -> int:
    return _within(value, ANSWER_TOKENS)


def _flag(value: str) -> bool:
    return bool(_within(value, range(2)))


def _within(value: str, allowed: range) -> int:
    if not re.fullmatch(r"[0-9]{1,7}", value) or int(value) not in allowed:
        raise ValueError
    return int(value)


def _printable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "?", name)[:20]


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "sample": ("sample", _sample),
    "question": ("question", _question),
    "rows": ("rows", _rows),
    "methods": ("methods", _methods),
    "first": ("question_first", _flag),
    "cut": ("truncate", _flag),
    "longest": ("max_new_tokens", _longest),
    "begin": ("answer_prefix", _question),
}
