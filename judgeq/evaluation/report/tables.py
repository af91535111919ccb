"""Every figure as a table: plain cells that HTML and Markdown show each in its own way. No text is escaped here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block, Move, best_of, deployable
from judgeq.evaluation.report.read import AVERAGE, ResultFile, Row
from judgeq.evaluation.report.words import (
    BASELINE,
    FULL,
    between,
    budget_title,
    kind_of,
    length_title,
    method_title,
    percent,
    points,
    task_title,
)

FULL_FAILS = 0.25
"""A score of the full cache below which a task says little about eviction: the model itself cannot do it."""
MARK = "†"
MARKED = f"{MARK} The full cache itself scores below {100 * FULL_FAILS:.0f} %: what eviction costs does not show here."
NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """One figure.

    Attributes:
        text: as it is shown.
        detail: more, where there is room.
        best: of the deployable methods in its line or column.
    """

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True)
class Table:
    """A table of figures, or of facts.

    Attributes:
        caption: what it shows.
        corner: what its lines are.
        columns: headers.
        lines: a header and one cell a column; a header that starts with `MARK` is explained by `note`.
        note: below it.
        prose: cells hold words, not figures.
        exact: details say how sure a figure is, so they are never left out.
    """

    caption: str
    corner: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[Cell, ...]], ...]
    note: str = ""
    prose: bool = False
    exact: bool = False


def score_table(block: Block, length: int | None) -> Table:
    """Averages, methods x budgets; the best deployable method of each budget stands out."""
    best = {budget: block.best(budget, length) for budget in block.budgets}
    rated = "Share of the oracle’s top rows that stay" if block.is_hit_rate else "Average score"
    spans = "" if not block.lengths else f", {length_title(length)}"
    lines = [
        _line(
            method_title(method),
            [
                _score(block.average(method, budget, length), method in best[budget])
                for budget in block.budgets
            ],
        )
        for method in _methods(block)
    ]
    return Table(f"{block.title}{spans}: {rated.lower()}", "method", _budgets(block), tuple(lines))


def lead_table(block: Block, length: int | None) -> Table | None:
    """Points above SnapKV with intervals, methods x budgets; None without SnapKV."""
    found = [
        (method, [block.lead(method, budget, length) for budget in block.budgets])
        for method in block.methods
        if deployable(method) and method != BASELINE
    ]
    lines = [
        _line(
            method_title(method),
            [
                Cell(points(lead.difference), between(lead.interval, signed=True)) if lead else _EMPTY
                for lead in leads
            ],
        )
        for method, leads in found
        if any(leads)
    ]
    if not lines:
        return None
    caption = f"{block.title}: points above {method_title(BASELINE)}"
    exact = any(lead and lead.interval for _, leads in found for lead in leads)
    note = "With 95 % intervals of the difference, question by question; with zero inside, it may be chance."
    return Table(caption, "method", _budgets(block), tuple(lines), note if exact else "", exact=True)


def gap_table(block: Block, length: int | None) -> Table | None:
    """Share of the gap between SnapKV and the full cache that is closed, methods x budgets."""
    found = {
        method: [block.gap_closed(method, budget, length) for budget in block.budgets]
        for method in block.methods
        if method != BASELINE
    }
    lines = [
        _line(method_title(method), [_EMPTY if gap is None else Cell(share_of_gap(gap)) for gap in gaps])
        for method, gaps in found.items()
        if any(gap is not None for gap in gaps)
    ]
    if not lines:
        return None
    caption = (
        f"{block.title}: share of the gap between {method_title(BASELINE)} and the full cache that is closed"
    )
    return Table(caption, "method", _budgets(block), tuple(lines))


def task_table(block: Block, length: int | None, budget: Budget) -> Table:
    """Scores at one budget, tasks x methods; marked where the full cache itself fails."""
    methods = _methods(block)
    tasks = block.tasks(length)
    names = [task_title(task) for task in tasks]
    lines = []
    for task, name in zip(tasks, names, strict=True):
        rows = {method: row for method in methods if (row := block.score(method, budget, task))}
        failed = fails(block, task)  # nobody is best at what the model itself cannot do
        own = {} if failed else {method: row.score for method, row in rows.items() if deployable(method)}
        if names.count(name) > 1:
            name += f", {length_title(task.length) if length is None and task.length else task.metric}"
        cells = [_score(rows.get(method), method in best_of(own)) for method in methods]
        lines.append(_line(f"{MARK} {name}" if failed else name, cells))
    if len(tasks) > 1:
        best = block.best(budget, length)
        averages = [_score(block.average(method, budget, length), method in best) for method in methods]
        lines.append(_line(AVERAGE, averages))
    spans = "" if not block.lengths else f", {length_title(length)}"
    caption = f"{block.title}{spans}: {budget_title(budget, block.per)}"
    note = MARKED if any(fails(block, task) for task in tasks) else ""
    return Table(caption, "task", tuple(map(method_title, methods)), tuple(lines), note)


def fails(block: Block, task: Row) -> bool:
    """Whether the full cache fails on a task."""
    row = None if block.full is None else block.score(block.full, 1.0, task)
    return row is not None and row.score < FULL_FAILS


def needle_table(block: Block, budget: Budget) -> Table:
    """Scores by depth and length at one budget: one line for each method and depth."""
    lines = []
    for method in _methods(block):
        for depth in block.depths:
            cells = [needle(block, method, budget, depth, length) for length in block.lengths]
            name = f"{method_title(method)}, depth {depth} %"
            lines.append(_line(name, [_score(cell, False) for cell in cells]))
    columns = tuple(map(length_title, block.lengths))
    caption = f"{block.title}: depth by length, {budget_title(budget, block.per)}"
    return Table(caption, "method", columns, tuple(lines))


def needle(block: Block, method: str, budget: Budget, depth: int, length: int) -> Row | None:
    """The score at one depth and length."""
    task = next((task for task in block.tasks(length) if task.depth == depth), None)
    return None if task is None else block.score(method, budget, task)


def layer_table(block: Block, budget: Budget) -> Table:
    """Hit rates at one budget, layers x methods."""
    rates = layer_rates(block, budget)
    layers = max(map(len, rates.values()), default=0)
    lines = [
        _line(
            str(layer),
            [Cell(percent(rate[layer])) if layer < len(rate) else _EMPTY for rate in rates.values()],
        )
        for layer in range(layers)
    ]
    caption = f"{block.title} by layer: {budget_title(budget, block.per)}"
    return Table(caption, "layer", tuple(map(method_title, rates)), tuple(lines))


def layer_rates(block: Block, budget: Budget) -> dict[str, tuple[float, ...]]:
    """Hit rates of each layer by method, where the file has them."""
    found = {method: block.average(method, budget) for method in block.methods}
    return {method: row.per_layer for method, row in found.items() if row is not None and row.per_layer}


def moved_table(title: str, moves: Mapping[tuple[str, Budget], Move], per: int | None) -> Table:
    """What moving the question to the front does, methods x budgets, in points; the full cache at every budget."""
    budgets = list(dict.fromkeys(budget for method, budget in moves if kind_of(method) != FULL))
    lines = []
    for method in dict.fromkeys(method for method, _ in moves):
        own = {budget: move for (name, budget), move in moves.items() if name == method}
        if kind_of(method) == FULL:
            own = dict.fromkeys(budgets, *own.values())
        lines.append(_line(method_title(method), [_moved(own.get(budget)) for budget in budgets]))
    note = "Points gained (+) or lost (−) when the question stands before the document instead of behind it."
    columns = tuple(budget_title(budget, per) for budget in budgets)
    return Table(
        f"{title}: the question moved to the front", "method", columns, tuple(lines), note, exact=True
    )


def _moved(move: Move | None) -> Cell:
    if move is None:
        return _EMPTY
    detail = between(move.interval, signed=True)
    return Cell(f"{points(move.change)} ({100 * move.last:.1f} → {100 * move.first:.1f})", detail)


def facts_table(file: ResultFile) -> Table:
    """How a file was made: settings, versions, seed, soft tokens, questions."""
    lines = [
        *flat(file.facts),
        ("questions a cell", ", ".join(f"{count:,}" for count in sorted({row.n for row in file.rows}))),
    ]
    if file.answered is not None:
        lines.append(("questions answered", "{:,} of {:,}".format(*file.answered)))
    cells = tuple((name, (Cell(value),)) for name, value in lines)
    return Table(f"How {file.name} was measured", "setting", ("value",), cells, prose=True)


def flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values, one level of groups unfolded, what is not set left out."""
    for group, inner in facts.items():
        for name, value in inner.items() if isinstance(inner, Mapping) else [("", inner)]:
            if value is not None:
                yield f"{group} · {name}" if name else group, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def share_of_gap(share: float) -> str:
    """`72 %`."""
    return f"{100 * share:.0f} %".replace("-", "−")


def _methods(block: Block) -> list[str]:
    """All of them, the full cache first."""
    return block.methods if block.full is None else [block.full, *block.methods]


def _budgets(block: Block) -> tuple[str, ...]:
    return tuple(budget_title(budget, block.per) for budget in block.budgets)


def _line(name: str, cells: Sequence[Cell]) -> tuple[str, tuple[Cell, ...]]:
    return name, tuple(cells)


def _score(row: Row | None, best: bool) -> Cell:
    return _EMPTY if row is None else Cell(percent(row.score), between(row.interval), best)


_EMPTY = Cell(NOTHING)
