"""From answers to the rows of a results file: means, intervals, paired differences."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from judgeq.evaluation.journal import Answers
from judgeq.evaluation.report.read import AVERAGE, BASELINE
from judgeq.evaluation.runner import WHOLE, Asked, Measured
from judgeq.evaluation.statistics import bootstrap_interval, mean
from judgeq.methods import Full

DIGITS = 4


@dataclass(frozen=True)
class Cell:
    """What one row of a table is computed from: the answers to some questions, task by task.

    Attributes:
        fields: what identifies it: task, benchmark, length, depth, question_first, metric.
        groups: for each task the answers by the places of its questions; a mean counts every task the same.
    """

    fields: dict[str, Any]
    groups: tuple[dict[int, Answers], ...]

    @property
    def count(self) -> int:
        """Questions."""
        return sum(map(len, self.groups))

    def values(self, value: Callable[[Answers], float]) -> list[list[float]]:
        """A number for each question, task by task."""
        return [[value(answers) for answers in group.values()] for group in self.groups]


def _summary(values: Sequence[Sequence[float]], seed: int) -> tuple[float, list[float]]:
    low, high = bootstrap_interval(values, seed)
    return round(mean(values), DIGITS), [round(low, DIGITS), round(high, DIGITS)]


def cells_of(measured: Sequence[Measured]) -> list[Cell]:
    """A cell for each task and metric, for its kinds of examples, and for averages over the tasks of a benchmark."""
    single = [cell for each in measured for cell in _task_cells(each)]
    wholes = [cell for cell in single if not cell.fields["kind"]]
    averages: list[Cell] = []
    for length in (True, False):
        names = ("benchmark", "length", "question_first") if length else ("benchmark", "question_first")
        grouped: dict[tuple[Any, ...], list[Cell]] = {}
        for cell in wholes:
            grouped.setdefault(tuple(cell.fields[name] for name in names), []).append(cell)
        several = (cells for cells in grouped.values() if len({cell.fields["task"] for cell in cells}) > 1)
        averages += [_average(cells, length) for cells in several]
    unique = {cell.fields["task"]: cell for cell in averages}  # one length: both averages are the same
    return [*single, *unique.values()]


def rows_of(cells: Sequence[Cell], asked: Sequence[Asked], seed: int) -> list[dict[str, Any]]:
    """One row for each cell and each method at each budget."""
    full = next((each.name for each in asked if each.method == Full()), None)
    rows = [_row(cell, each, full, seed) for cell in cells for each in asked]
    return with_gaps(rows)


def differences_of(cells: Sequence[Cell], asked: Sequence[Asked], seed: int) -> list[dict[str, Any]]:
    """What a method gains over another at the same budget, question by question.

    Every method against the baseline in every cell; methods with soft tokens against all others in the averages.
    """
    names = {each.name: each for each in asked if not isinstance(each.method, Full)}
    rows = []
    for cell in cells:
        for each in names.values():
            rivals = {BASELINE: None}
            if cell.fields["metric"] == AVERAGE and each.method.appends:
                rivals |= dict.fromkeys(other.label for other in asked)
            for label in rivals:
                other = names.get(f"{label}@{each.budget}")
                if other is not None and other is not each:
                    rows.append(_difference(cell, each, other, seed))
    return rows


def _difference(cell: Cell, ours: Asked, theirs: Asked, seed: int) -> dict[str, Any]:
    gains = cell.values(lambda answers: answers[ours.name].score - answers[theirs.name].score)
    difference, interval = _summary(gains, seed)
    fields = {"method": ours.label, "against": theirs.label, "budget": ours.budget, **_public(cell)}
    return {**fields, "difference": difference, "interval": interval, "n": cell.count}


def moved_of(cells: Sequence[Cell], asked: Sequence[Asked], seed: int) -> list[dict[str, Any]]:
    """What each method gains when the question comes first, on the questions that were measured in both places."""
    last = {_place(cell): cell for cell in cells if not cell.fields["question_first"]}
    rows = []
    for cell in cells:
        before = last.get(_place(cell)) if cell.fields["question_first"] else None
        if before is None:
            continue
        pairs = [
            [(early[at], late[at]) for at in late if at in early]
            for early, late in zip(before.groups, cell.groups, strict=True)
        ]
        for each in asked:
            gains = [[b[each.name].score - a[each.name].score for a, b in group] for group in pairs]
            difference, interval = _summary(gains, seed)
            row = {"method": each.label, "budget": each.budget, **_public(before), "difference": difference}
            rows.append({**row, "interval": interval, "n": sum(map(len, pairs))})
    return rows


def with_gaps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with `gap_closed`: the share of the way from SnapKV to the full cache at the same task and budget.

    None where that way is not positive, and in the full cache's own rows; no such field unless both were measured.
    """
    found = {(row["method"], row["task"], row["metric"], row["budget"]): row["score"] for row in rows}
    if not {"full", BASELINE} <= {row["method"] for row in rows}:
        return list(rows)

    def closed(row: dict[str, Any]) -> float | None:
        task = row["task"], row["metric"]
        low, high = found.get((BASELINE, *task, row["budget"])), found["full", *task, WHOLE]
        if row["method"] == "full" or low is None or high <= low:
            return None
        return round((row["score"] - low) / (high - low), 3)

    return [{**row, "gap_closed": closed(row)} for row in rows]


def _row(cell: Cell, asked: Asked, full: str | None, seed: int) -> dict[str, Any]:
    score, interval = _summary(cell.values(lambda answers: answers[asked.name].score), seed)
    row = {"method": asked.label, "budget": asked.budget, **_public(cell), "score": score, "n": cell.count}
    row["interval"] = interval
    held = [answers[asked.name].kv_bytes for group in cell.groups for answers in group.values()]
    if None not in held:
        row["kv_bytes"] = round(sum(filter(None, held)) / len(held))
    if (lost := _lost(cell, asked.name)) is not None:
        row["lost"] = round(lost, DIGITS)
    if full is not None:
        same = cell.values(lambda answers: float(answers[asked.name].text == answers[full].text))
        row["as_full"] = round(mean(same), DIGITS)
    return row


def _lost(cell: Cell, name: str) -> float | None:
    """The mean share of right answers that is lost everywhere, over the questions where that is known of any method.

    None where there is no such question, or where it is unknown of this method for one of them.
    """
    shares: list[list[float]] = []
    for group in cell.groups:
        known = [each for each in group.values() if any(rated.lost is not None for rated in each.values())]
        found = [share for each in known if (share := each[name].lost) is not None]
        if len(found) < len(known):
            return None
        shares += [found] if found else []
    return mean(shares) if shares else None


def _task_cells(measured: Measured) -> list[Cell]:
    """The task as a whole for each of its metrics, then each kind of example where there are several."""
    task = measured.task
    answered = {at: (measured.questions[at], answers) for at, answers in measured.answers.items()}
    fields = {
        "task": task.label,
        "benchmark": task.name.partition("/")[0],
        "length": task.length,
        "depth": task.depth,
        "question_first": task.question_first,
    }
    cells = []
    for metric in dict.fromkeys(question.metric for question, _ in answered.values()):
        chosen = {at: both for at, both in answered.items() if both[0].metric == metric}
        everything = {at: answers for at, (_, answers) in chosen.items()}
        cells.append(Cell({**fields, "metric": metric, "kind": ""}, (everything,)))
        kinds = sorted({question.example.kind for question, _ in chosen.values()})
        for kind in kinds if len(kinds) > 1 else ():
            of_kind = {at: a for at, (question, a) in chosen.items() if question.example.kind == kind}
            named = {"task": f"{task.label}/{kind.rpartition('/')[2]}", "metric": metric, "kind": kind}
            cells.append(Cell({**fields, **named}, (of_kind,)))
    return cells


def _average(cells: Sequence[Cell], of_length: bool) -> Cell:
    """The average over cells of one benchmark and one place of the question."""
    first = cells[0].fields
    length = first["length"] if of_length or len({cell.fields["length"] for cell in cells}) == 1 else None
    label = first["benchmark"] + (f"@{length}" if length is not None else "")
    fields = {
        **first,
        "task": label + ("/first" if first["question_first"] else ""),
        "length": length,
        "depth": None,
        "metric": AVERAGE,
        "tasks": len(cells),
    }
    return Cell(fields, tuple(group for cell in cells for group in cell.groups))


def _public(cell: Cell) -> dict[str, Any]:
    return {name: value for name, value in cell.fields.items() if name != "kind"}


def _place(cell: Cell) -> tuple[Any, ...]:
    """The same for a task and its twin with the question elsewhere."""
    fields = (value for name, value in cell.fields.items() if name != "question_first")
    return tuple(value.removesuffix("/first") if isinstance(value, str) else value for value in fields)


def notes_of(measured: Iterable[Measured]) -> list[str]:
    """What a reader of the results must know, each once."""
    return list(dict.fromkeys(note for each in measured for note in each.task.notes))


def questions_of(measured: Iterable[Measured]) -> dict[str, str]:
    """For each task sixteen hex digits that change with the answered questions and their right answers."""
    return {
        each.task.label: hashlib.sha256("".join(each.questions[at].key for at in each.answers).encode()).hexdigest()[
            :16
        ]
        for each in measured
    }
