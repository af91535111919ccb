"""Every figure as a table: plain cells and captions, which `render.py` writes as HTML and Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block, BytePoint, Move, Moves, best_of, byte_points, deployable
from judgeq.evaluation.report.paper import CITATION, MODEL, Published
from judgeq.evaluation.report.read import AVERAGE, BASELINE, ResultFile, Row, SpeedFile, SpeedRow
from judgeq.evaluation.report.words import (
    FULL,
    between,
    budget_title,
    kind_of,
    length_title,
    length_titles,
    method_title,
    percent,
    points,
    task_title,
)

FULL_FAILS = 0.25
"""A score of the full cache below which a task says little about eviction: the model itself cannot do it."""
MARK = "†"
MARKED = f"{MARK} The full cache itself scores below {100 * FULL_FAILS:.0f} %: what eviction costs does not show here."
INTERVALS = "With 95 % intervals of the difference, question by question; with zero inside, it may be chance."
GAINED = "Points gained (+) or lost (−) when the question comes before the document instead of after it."
LOST = (
    "Of the tokens of the right answer’s words that stand in the prompt, those whose row no head of any layer keeps; "
    "in brackets the score. Near 90 % removed answers break where a token is gone from every head (arXiv 2603.01426)."
)
BYTE_SHARES = (0.025, 0.05, 0.1, 0.18, 0.32, 0.5)
EQUAL_BYTES = (
    "Bytes of the rows, keys and values of all layers, that answers were generated from, as shares of the full cache’s "
    "unquantized bytes. Each method with the most rows that fit; – where it was not measured near this share."
)
SPEED_NOTE = (
    "Medians of rounds in which every contender takes a turn. Ratios are taken within a round. The roofline is what "
    "reading weights and rows from memory allows: (weights + full rows) / (weights + kept rows)."
)


@dataclass(frozen=True)
class Cell:
    """One figure as it is shown, more where there is room, and whether it is the best of the deployable methods."""

    text: str
    detail: str = ""
    best: bool = False


NOTHING = Cell("–")


@dataclass(frozen=True)
class Table:
    """A table of figures, or of facts.

    Attributes:
        corner: what its lines are.
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


def score_tables(block: Block) -> list[Table]:
    """Averages, of all lengths and of each."""
    return [score_table(block, length) for length in block.scopes]


def score_table(block: Block, length: int | None) -> Table:
    """Averages, methods x budgets; the best deployable method of each budget is marked."""
    best = {budget: block.best(budget, length) for budget in block.budgets}
    rated = "share of the oracle’s top rows that are kept" if block.is_hit_rate else "average score"
    lines = [
        (
            method_title(method),
            [_score(block.average(method, budget, length), method in best[budget]) for budget in block.budgets],
        )
        for method in block.all_methods
    ]
    caption = f"{block.title}{_spans(block, length)}: {rated}"
    return _table(caption, "method", block.budget_titles, lines)


def compared_tables(block: Block) -> list[Table]:
    """Leads over SnapKV, closed gaps, what is lost everywhere and equal bytes, on average over everything."""
    compared = (lead_table, gap_table, lost_table, bytes_table)
    return [table for make in compared if (table := make(block, block.scopes[0])) is not None]


def lead_table(block: Block, length: int | None) -> Table | None:
    """Points above SnapKV with intervals, methods x budgets; None without SnapKV."""

    def lead(method: str, budget: Budget) -> Cell | None:
        found = block.lead(method, budget, length) if deployable(method) else None
        return Cell(points(found.difference), between(found.interval, signed=True)) if found else None

    caption = f"{block.title}: points above {method_title(BASELINE)}"
    table = _of_methods(caption, block, block.methods, lead, note=INTERVALS, exact=True)
    sure = table and any(cell.detail for _, cells in table.lines for cell in cells)
    return replace(table, note="") if table and not sure else table


def gap_table(block: Block, length: int | None) -> Table | None:
    """Share of the gap between SnapKV and the full cache that is closed, methods x budgets."""
    methods = [method for method in block.methods if method != BASELINE]
    caption = f"{block.title}: share of the gap between {method_title(BASELINE)} and the full cache that is closed"
    return _of_methods(caption, block, methods, lambda method, budget: _gap(block.gap_closed(method, budget, length)))


def lost_table(block: Block, length: int | None) -> Table | None:
    """Score, and the share of the right answers that no head keeps, methods x budgets; None where it is unknown."""

    def lost(method: str, budget: Budget) -> Cell | None:
        row = block.average(method, budget, length)
        return None if row is None or row.lost is None else Cell(percent(row.lost), percent(row.score))

    caption = f"{block.title}: share of the right answer that is lost everywhere, and the score beside it"
    return _of_methods(caption, block, block.methods, lost, note=LOST, exact=True)


def bytes_table(block: Block, length: int | None) -> Table | None:
    """Scores at equal bytes, methods x shares of the full cache's bytes; None where bytes are unknown.

    Each method is shown at the most rows that fit; no score where they leave a fifth of the share unused.
    """
    points = byte_points(block, length)
    if not points:
        return None
    fitted = {method: [_fitting(found, share) for share in BYTE_SHARES] for method, found in points.items()}
    measured = [at for at in range(len(BYTE_SHARES)) if any(cells[at] for cells in fitted.values())]
    if not measured:
        return None
    lines: dict[str, list[Cell]] = {method: [] for method in fitted if any(fitted[method])}
    for at in measured:
        found = {method: point for method in lines if (point := fitted[method][at])}
        best = best_of({method: point.score for method, point in found.items() if deployable(method)})
        for method, cells in lines.items():
            point = found.get(method)
            cells.append(Cell(percent(point.score), point.detail, method in best) if point else NOTHING)
    caption = f"{block.title}{_spans(block, length)}: average score at equal bytes"
    columns = [f"{100 * BYTE_SHARES[at]:g} %" for at in measured]
    named = [(method_title(method), cells) for method, cells in lines.items()]
    return _table(caption, "method", columns, named, note=EQUAL_BYTES)


def _fitting(points: Sequence[BytePoint], share: float) -> BytePoint | None:
    """The largest that fits into a share of the bytes, unless it leaves a fifth of it unused."""
    fitting = [point for point in points if point.share < share + 0.001]
    largest = max(fitting, key=lambda point: point.share, default=None)
    return largest if largest and largest.share > 0.8 * share else None


def task_tables(block: Block) -> dict[tuple[int | None, Budget], Table]:
    """Tasks x methods by length and budget; empty where averages already say it all, each over one task."""
    if all(len(block.tasks(length)) < 2 for length in block.table_lengths):
        return {}
    return {
        (length, budget): task_table(block, length, budget)
        for length in block.table_lengths
        for budget in block.budgets
    }


def task_table(block: Block, length: int | None, budget: Budget) -> Table:
    """Scores at one budget, tasks x methods; marked where the full cache itself fails."""
    methods, tasks = block.all_methods, block.tasks(length)
    names = [task_title(task) for task in tasks]
    lines = []
    for task, name in zip(tasks, names, strict=True):
        rows = {method: row for method in methods if (row := block.score(method, budget, task))}
        failed = _fails(block, task)  # no method is best at what the model itself cannot do
        own = {} if failed else {method: row.score for method, row in rows.items() if deployable(method)}
        if names.count(name) > 1:
            name += f", {length_title(task.length) if length is None and task.length else task.metric}"
        cells = [_score(rows.get(method), method in best_of(own)) for method in methods]
        lines.append((f"{MARK} {name}" if failed else name, cells))
    if len(tasks) > 1:
        best = block.best(budget, length)
        averages = [_score(block.average(method, budget, length), method in best) for method in methods]
        lines.append((AVERAGE, averages))
    caption = f"{block.title}{_spans(block, length)}: {budget_title(budget, block.per)}"
    note = MARKED if any(_fails(block, task) for task in tasks) else ""
    return _table(caption, "task", map(method_title, methods), lines, note=note)


def needle_tables(block: Block) -> list[Table]:
    """Scores by depth and length, a table for each budget with one line for each method and depth."""
    tables = []
    for budget in block.budgets if block.has_needles else ():
        lines = [
            (
                f"{method_title(method)}, depth {depth} %",
                [_score(block.needle(method, budget, depth, length)) for length in block.lengths],
            )
            for method in block.all_methods
            for depth in block.depths
        ]
        caption = f"{block.title}: depth by length, {budget_title(budget, block.per)}"
        tables.append(_table(caption, "method", length_titles(block.lengths), lines))
    return tables


def layer_tables(block: Block) -> list[Table]:
    """Hit rates, layers x methods, a table for each budget that has them."""
    tables = []
    for budget in block.budgets:
        if rates := block.layer_rates(budget):
            lines = [
                (str(at), [NOTHING if rate is None else Cell(percent(rate)) for rate in layer])
                for at, layer in enumerate(zip_longest(*rates.values()))
            ]
            caption = f"{block.title} by layer: {budget_title(budget, block.per)}"
            tables.append(_table(caption, "layer", map(method_title, rates), lines))
    return tables


def moved_table(title: str, moves: Moves, per: int | None) -> Table:
    """What moving the question to the front does, methods x budgets, in points; the full cache at every budget."""
    budgets = list(dict.fromkeys(budget for method, budget in moves if kind_of(method) != FULL))
    lines = []
    for method in dict.fromkeys(method for method, _ in moves):
        own = {budget: move for (name, budget), move in moves.items() if name == method}
        if kind_of(method) == FULL:
            own = dict.fromkeys(budgets, *own.values())
        lines.append((method_title(method), [_moved(own.get(budget)) for budget in budgets]))
    columns = [budget_title(budget, per) for budget in budgets]
    return _table(f"{title}: the question moved to the front", "method", columns, lines, note=GAINED, exact=True)


def paper_tables(published: Published, blocks: Iterable[Block]) -> tuple[list[Table], list[Table]]:
    """The paper's scores and closed gaps, and the same as they were measured here."""
    columns = [f"{budget:,} rows" for budget in published.budgets]
    by_budget = zip(*published.scores.values(), strict=True)
    best = [best_of(dict(zip(published.scores, scores, strict=True))) for scores in by_budget]
    lines = [] if published.full is None else [(FULL, [Cell(percent(published.full / 100))] * len(columns))]
    lines += [
        (method, [Cell(percent(score / 100), best=method in best[at]) for at, score in enumerate(scores)])
        for method, scores in published.scores.items()
    ]
    gaps = [
        (method, [_gap(share) or NOTHING for share in published.gap_closed(method)])
        for method in published.scores
        if method != BASELINE
    ]
    tables = {f"{published.title}, {MODEL} ({CITATION})": lines}
    if published.full is not None:
        tables[f"share of the gap that is closed, {MODEL}, computed from the figures above"] = gaps
    theirs = [
        _table(f"Published by others: {caption}", "method", columns, [(method_title(m), c) for m, c in each])
        for caption, each in tables.items()
    ]
    ours = []
    for block in blocks:
        scope = 8192 if block.benchmark == "ruler" and 8192 in block.lengths else block.scopes[0]
        ours += [table for table in (score_table(block, scope), gap_table(block, scope)) if table is not None]
    return theirs, ours


def facts_table(file: ResultFile | SpeedFile) -> Table:
    """How a file was made: settings, versions, seed, soft tokens, questions."""
    facts = list(_flat(file.facts))
    if isinstance(file, ResultFile):
        counts = sorted({row.n for row in file.rows})
        facts.append(("questions per cell", ", ".join(f"{count:,}" for count in counts)))
        if file.answered is not None and file.asked is not None:
            facts.append(("questions answered", f"{file.answered:,} of {file.asked:,}"))
    lines = [(name, [Cell(value)]) for name, value in facts]
    return _table(f"How {file.name} was measured", "setting", ["value"], lines, prose=True)


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"


_SPEED_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "First token": ("first_s", lambda seconds: f"{seconds:.2f} s"),
    "over transformers": ("first_over_plain", lambda ratio: f"{100 * (ratio - 1):+.1f} %"),
    "A later token": ("token_s", lambda seconds: f"{1000 * seconds:.1f} ms"),
    "Speed-up": ("speedup", "{:.2f}".format),
    "Roofline": ("roofline", "{:.2f}".format),
    "Reached": ("of_roofline", lambda share: f"{100 * share:.0f} %"),
    "Peak of rows": ("peak_bytes", _megabytes),
    "over the bound": ("peak_over_bound", "{:.3f}".format),
    "Rows while decoding": ("row_bytes", _megabytes),
    "Storage at the end": ("kv_bytes", _megabytes),
    "GPU memory": ("device_bytes", _megabytes),
}
"""The field that each column shows, and how."""


def speed_table(file: SpeedFile) -> Table:
    """Times and bytes, a line for each contender; columns that something was measured for."""
    columns = {
        title: column
        for title, column in _SPEED_COLUMNS.items()
        if any(getattr(row, column[0]) is not None for row in file.rows)
    }

    def cell(row: SpeedRow, field: str, shown: Callable[[float], str]) -> Cell:
        value = getattr(row, field)
        return NOTHING if value is None else Cell(shown(value))

    lines = [(row.label, [cell(row, *column) for column in columns.values()]) for row in file.rows]
    return _table("The first token, later tokens, and bytes", "Method", columns, lines, note=SPEED_NOTE)


def _table(
    caption: str,
    corner: str,
    columns: Iterable[str],
    lines: Iterable[tuple[str, Sequence[Cell]]],
    **options: Any,
) -> Table:
    rows = tuple((name, tuple(cells)) for name, cells in lines)
    return Table(caption, corner, tuple(columns), rows, **options)


def _of_methods(
    caption: str,
    block: Block,
    methods: Iterable[str],
    cell: Callable[[str, Budget], Cell | None],
    **options: Any,
) -> Table | None:
    """Methods x the block's budgets, without methods that have no cell; None where none has."""
    found = [(method_title(method), [cell(method, budget) for budget in block.budgets]) for method in methods]
    lines = [(title, [each or NOTHING for each in cells]) for title, cells in found if any(cells)]
    return _table(caption, "method", block.budget_titles, lines, **options) if lines else None


def _spans(block: Block, length: int | None) -> str:
    return f", {length_title(length)}" if block.lengths else ""


def _fails(block: Block, task: Row) -> bool:
    """Whether the full cache fails on a task."""
    row = None if block.full is None else block.score(block.full, 1.0, task)
    return row is not None and row.score < FULL_FAILS


def _score(row: Row | None, best: bool = False) -> Cell:
    return NOTHING if row is None else Cell(percent(row.score), between(row.interval), best)


def _gap(share: float | None) -> Cell | None:
    return None if share is None else Cell(f"{100 * share:.0f} %".replace("-", "−"))


def _moved(move: Move | None) -> Cell:
    if move is None:
        return NOTHING
    detail = between(move.interval, signed=True)
    return Cell(f"{points(move.change)} ({100 * move.last:.1f} → {100 * move.first:.1f})", detail)


def _flat(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values, one level of groups unfolded, what is not set left out."""
    for group, inner in facts.items():
        for name, value in inner.items() if isinstance(inner, Mapping) else [("", inner)]:
            if value is not None:
                yield f"{group} · {name}" if name else group, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str | int | float) for each in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
