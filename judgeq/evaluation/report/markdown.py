"""Tables and sentences as Markdown that a README can take over. Every text is untrusted and escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from judgeq.evaluation.report.contents import (
    ABOUT,
    TITLE,
    WORDS,
    Part,
    compared_tables,
    has_needles,
    parts_of,
    score_tables,
    task_tables,
)
from judgeq.evaluation.report.paper import MOVED, own_tables, published_tables
from judgeq.evaluation.report.read import ResultFile
from judgeq.evaluation.report.speed import SpeedFile, setup_table, speed_table
from judgeq.evaluation.report.tables import (
    Cell,
    Table,
    facts_table,
    layer_rates,
    layer_table,
    moved_table,
    needle_table,
)
from judgeq.look.format import visible

_SPECIAL = re.compile(r"[\\`*<>\[\]|#~$]|(?<![^\W_])_|_(?![^\W_])")


def to_markdown(files: Sequence[ResultFile], title: str = TITLE, speed: Sequence[SpeedFile] = ()) -> str:
    """The report as Markdown.

    Args:
        files: of `evaluate`.
        title: first heading.
        speed: files of `bench`.
    """
    pieces = [f"# {escaped(title)}", ABOUT]
    for part in parts_of(files):
        pieces += _part(part)
    for file in speed:
        pieces += [f"## {escaped(file.title)}", table_text(speed_table(file)), table_text(setup_table(file))]
        pieces += [f"    {visible(file.command)}"] if file.command else []
    pieces += ["## Words", *(f"- **{word}**: {escaped(meaning)}" for word, meaning in WORDS)]
    return _spaced(pieces)


def _part(part: Part) -> list[str]:
    pieces = [f"## {escaped(part.model)}"]
    for summary in part.summaries:
        pieces += [escaped(summary.lead), *(f"- {escaped(line)}" for line in summary.budgets)]
    if part.warnings:
        pieces += ["**Read with care**", *(f"- {escaped(text)}" for text in part.warnings)]
    for block in part.blocks:
        tables = [*score_tables(block), *compared_tables(block), *task_tables(block).values()]
        tables += [needle_table(block, budget) for budget in block.budgets if has_needles(block)]
        tables += [layer_table(block, budget) for budget in block.budgets if layer_rates(block, budget)]
        pieces += [f"### {escaped(block.title)}", *map(table_text, tables)]
    if part.moved:
        pieces.append("### The question moved to the front")
        pieces += [table_text(moved_table(each.title, each.moves, each.per)) for each in part.moved]
        pieces.append(escaped(MOVED))
    if part.published:
        pieces.append("### Beside the paper")
        for published, blocks in part.published:
            tables = [
                *published_tables(published),
                *(table for block in blocks for table in own_tables(block)),
            ]
            pieces += map(table_text, tables)
    pieces.append("### How it was measured")
    for file in part.files:
        pieces += [table_text(facts_table(file)), *([f"    {visible(file.command)}"] if file.command else [])]
    return pieces


def _spaced(pieces: Sequence[str]) -> str:
    """The pieces with an empty line between them, except between items of one list."""
    text = pieces[0]
    for before, piece in pairwise(pieces):
        text += ("\n" if before.startswith("- ") and piece.startswith("- ") else "\n\n") + piece
    return text + "\n"


def escaped(text: str) -> str:
    """One line that Markdown shows as it is written."""
    line = " ".join(visible(text).split()).replace("&", "&amp;")
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), line)


_ENTITIES = {"<": "&lt;", ">": "&gt;"}


def table_text(table: Table) -> str:
    """Caption, table and note; the best in bold."""
    header = [table.corner, *table.columns]
    lines = [
        _joined(escaped(cell) for cell in header),
        "|" + "---|" * len(header),
        *(
            _joined([escaped(name), *(_cell(cell, table.exact) for cell in cells)])
            for name, cells in table.lines
        ),
    ]
    note = ["", escaped(table.note)] if table.note else []
    return "\n".join([f"**{escaped(table.caption)}**", "", *lines, *note])


def _joined(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell, exact: bool) -> str:
    text = escaped(cell.text)
    text = f"**{text}**" if cell.best else text
    return f"{text} [{escaped(cell.detail)}]" if exact and cell.detail else text
