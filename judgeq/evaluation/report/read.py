"""Result files as data: what `evaluate … --json` writes; what older files lack is taken from the tasks' names.

Knows nothing of models or of how results are shown. Every text in a file is untrusted and kept as it is.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judgeq.config import Budget, check_budget
from judgeq.errors import InputError

AVERAGE = "average"
"""The metric of a row that spans several tasks."""
HIT_RATE = "hit_rate"
"""The metric of rows that compare kept rows, not answers."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One figure of a result file.

    Attributes:
        method: as a person called it, options included.
        budget: rows, or a share; 1.0 for the full cache.
        task: label, unique in a file together with the metric: `"ruler/vt@1024/first"`.
        metric: what rated the answers; `AVERAGE` for several tasks at once.
        benchmark: what the task belongs to.
        length: tokens that the prompts were made for.
        depth: percent of the document that stand before what is asked for.
        question_first: the question stands before the document.
        n: questions.
        interval: 95 %, where it was computed.
    """

    method: str
    budget: Budget
    task: str
    metric: str
    benchmark: str
    length: int | None = None
    depth: int | None = None
    question_first: bool = False
    n: int = 1
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Row(Entry):
    """A score.

    Attributes:
        score: from 0 to 1.
        tasks: how many it spans.
        per_layer: hit rates from the first layer to the last; empty for answers.
        part: `"first"` or `"last"` where the row speaks only of the questions of its task that stand there.
    """

    score: float
    tasks: int = 1
    per_layer: tuple[float, ...] = ()
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class Difference(Entry):
    """What one method gains over another, or over itself with the question elsewhere.

    Attributes:
        difference: from -1 to 1, in favour of `method`.
        against: the other method; empty where only the question moved.
    """

    difference: float
    against: str = ""


@dataclass(frozen=True)
class ResultFile:
    """One file.

    Attributes:
        name: of the file.
        model: that was measured.
        rows: at least one.
        differences: between methods, question by question.
        moved: what a method gains when the question stands first.
        notes: what a reader must know.
        skipped: prompts that were too long, by task.
        answered: questions with answers, and how many were asked; None where the file does not say.
        facts: everything else that it says about its making: settings, versions, soft tokens.
    """

    name: str
    model: str
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...] = ()
    moved: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    answered: tuple[int, int] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was asked to do."""
        settings = self.facts.get("settings")
        return settings if isinstance(settings, dict) else {}

    @property
    def command(self) -> str:
        """What repeats the run, in one line; empty where the file does not say."""
        command = self.settings.get("command")
        return " ".join(command.split()) if isinstance(command, str) else ""


def read_results(path: Path) -> ResultFile:
    """Read one file of `evaluate`.

    Raises:
        InputError: it cannot be read, or is no result file; the message names the file and what is wrong.
    """
    return results_from(read_json(path), path.name, str(path))


def read_json(path: Path) -> Any:
    """The content of a file, unchecked; an `InputError` where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): give files that `evaluate` wrote"
        ) from None
    except (ValueError, RecursionError):
        raise _refusal(str(path), "is not JSON") from None


def results_from(value: Any, name: str, where: str) -> ResultFile:
    """The content of a file, checked.

    Args:
        value: as JSON gives it.
        name: what to call the file.
        where: what to call it in a refusal.

    Raises:
        InputError: it is no result file.
    """
    if not isinstance(value, dict) or not isinstance(value.get("rows"), list):
        raise _refusal(where, "has no rows of results")
    if not value["rows"]:
        raise _refusal(where, "has an empty list of rows")
    rows = tuple(_row(entry, f"{where}: row {at}") for at, entry in enumerate(value["rows"], 1))
    facts = {key: value.get(key) for key in ("settings", "tokens", "seed", "versions", "judgeq_version")}
    return ResultFile(
        name=name,
        model=_text(value, "model", where),
        rows=_with_parts(rows),
        differences=_differences(value, "differences", where),
        moved=_differences(value, "moved", where),
        notes=tuple(str(note) for note in _list(value, "notes", where)),
        skipped=_counts(value.get("skipped") or {}, where),
        answered=_answered(value, where),
        facts={key: fact for key, fact in facts.items() if fact is not None},
    )


def _row(entry: Any, where: str) -> Row:
    fields = _entry(entry, where)
    layers = _list(entry, "per_layer", where)
    return Row(
        **fields,
        score=_number(entry, "score", where, 0, 1),
        tasks=_count(entry, "tasks", where) or 1,
        per_layer=tuple(_number({"per_layer": rate}, "per_layer", where, 0, 1) for rate in layers),
    )


def _differences(value: Mapping[str, Any], name: str, where: str) -> tuple[Difference, ...]:
    found = []
    for at, entry in enumerate(_list(value, name, where), 1):
        place = f"{where}: entry {at} of {name}"
        fields = _entry(entry, place)
        against = _text(entry, "against", place) if name == "differences" else ""
        found.append(
            Difference(**fields, difference=_number(entry, "difference", place, -1, 1), against=against)
        )
    return tuple(found)


def _entry(entry: Any, where: str) -> dict[str, Any]:
    """The fields of an `Entry`."""
    if not isinstance(entry, dict):
        raise _refusal(where, "is not an object")
    task, metric = _text(entry, "task", where), _text(entry, "metric", where)
    try:
        budget = check_budget(entry.get("budget"))  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    named = re.search(r"@(\d{1,9})(?:/|$)", task)
    length = _count(entry, "length", where)
    if length is None and named and "length" not in entry:
        length = int(named[1])
    if metric == HIT_RATE:
        benchmark = task  # texts of different kinds are never averaged
    else:
        benchmark = _text({"benchmark": re.split("[/@]", task)[0], **entry}, "benchmark", where)
    return {
        "method": _text(entry, "method", where),
        "budget": budget,
        "task": task,
        "metric": metric,
        "benchmark": benchmark,
        "length": length,
        "depth": _count(entry, "depth", where),
        "question_first": entry.get("question_first") is True,
        "n": _count(entry, "n", where) or 1,
        "interval": _interval(entry, where),
    }


def _with_parts(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows, those marked that repeat a part of another row's questions: `keys@1000/first` of `keys@1000`."""
    wholes = {(row.task, row.metric) for row in rows}

    def marked(row: Row) -> Row:
        parent, _, last = row.task.rpartition("/")
        is_part = last in ("first", "last") and not row.question_first and (parent, row.metric) in wholes
        return Row(**{**vars(row), "part": last}) if is_part else row

    return tuple(marked(row) for row in rows)


def _refusal(where: str, what: str) -> InputError:
    return InputError(f"{where} {what}: give files that `judgeq evaluate … --json FILE` wrote")


def _text(entry: Mapping[str, Any], name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _refusal(where, f"names no {name}")
    return value


def _number(entry: Mapping[str, Any], name: str, where: str, low: float, high: float) -> float:
    value = entry.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _refusal(where, f"has no number as {name}")
    if not low <= value <= high:
        raise _refusal(where, f"has the {name} {value}, which is not from {low} to {high}")
    return float(value)


def _count(entry: Mapping[str, Any], name: str, where: str) -> int | None:
    value = entry.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise _refusal(where, f"has no whole number as {name}")
    return value


def _list(entry: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = entry.get(name)
    if value is not None and not isinstance(value, list):
        raise _refusal(where, f"has no list as {name}")
    return value or []


def _interval(entry: Mapping[str, Any], where: str) -> Interval | None:
    ends = _list(entry, "interval", where)
    if not ends:
        return None
    if len(ends) != 2:
        raise _refusal(where, "has an interval without two ends")
    low, high = (_number({"interval": end}, "interval", where, -1, 1) for end in ends)
    return low, high


def _counts(value: Any, where: str) -> dict[str, int]:
    if not isinstance(value, dict):
        raise _refusal(where, "has no counts as skipped")
    return {task: count for task in value if (count := _count(value, task, where))}


def _answered(value: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    answered, asked = (_count(value, name, where) for name in ("answered", "asked"))
    return None if answered is None or asked is None else (answered, asked)
