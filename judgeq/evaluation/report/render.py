"""The report as one page that opens without a network, and as Markdown that a README can take over."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from markupsafe import Markup

from judgeq.evaluation.report import figures, paper, tables, words
from judgeq.evaluation.report.blocks import Block, Part, parts_of
from judgeq.evaluation.report.comparable import incomparable
from judgeq.evaluation.report.read import ResultFile, SpeedFile
from judgeq.evaluation.report.styles import SYMBOLS, styles_of
from judgeq.evaluation.report.summary import Summary, summary_of, warnings_of
from judgeq.evaluation.report.tables import Cell, Table
from judgeq.look.format import one_line, visible
from judgeq.look.pages import css, render, script
from judgeq.look.palette import SEQUENTIAL, variables

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Judge Q: results"
ABOUT = (
    "How well a language model still answers when most of its KV cache has been evicted, method against method on the "
    "same questions."
)
APART = "Not to be compared"
WORDS = (
    ("Budget", "Rows kept per KV head and layer, or the share of the prompt that is kept."),
    (
        "Score",
        "The benchmark’s own metric, 100 % is best; after it its 95 % bootstrap interval over questions.",
    ),
    (
        "Bold",
        "The best deployable method. The full cache saves nothing, the oracle has to know the answer: they are there "
        "to compare with.",
    ),
    ("Gap closed", "The share of the way from SnapKV to the full cache, at the same budget."),
    ("Hit rate", "The share of the oracle’s top rows that a method keeps."),
)
"""What a reader has to know, as (word, meaning)."""

_SPECIAL = re.compile(r"[\\`*<>\[\]|#~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = {"<": "&lt;", ">": "&gt;"}


def to_html(files: Sequence[ResultFile], title: str = TITLE, speed: Sequence[SpeedFile] = ()) -> str:
    """The report as a page: files of `evaluate`, and `speed`, files of `bench`."""
    from plotly.colors import get_colorscale
    from plotly.offline import get_plotlyjs

    data: list[Markup] = []

    def add(figure: Figure) -> int:
        """Keeps a figure's data for the end of the page; its number there."""
        safe = figure.to_json().replace("<", "\\u003c")  # nothing in it can end the script element
        data.append(Markup(safe))
        return len(data) - 1

    return render(
        "report.html.j2",
        title=title,
        about=ABOUT,
        apart=APART,
        words=WORDS,
        parts=parts_of(files),
        speed=speed,
        styles=styles_of(row.method for file in files for row in file.rows),
        symbols=SYMBOLS,
        ramp=[color for _, color in get_colorscale(SEQUENTIAL)],
        add=add,
        data=data,
        t=tables,
        f=figures,
        w=words,
        paper=paper,
        summaries=_summaries,
        warnings_of=warnings_of,
        incomparable=incomparable(files),
        css=Markup(variables()) + css("base", "report"),
        plotly=Markup(get_plotlyjs()),
        script=script("report"),
    ).lstrip()


def to_markdown(files: Sequence[ResultFile], title: str = TITLE, speed: Sequence[SpeedFile] = ()) -> str:
    """The report as Markdown; arguments as for `to_html`."""
    pieces = [f"# {escaped(title)}", ABOUT]
    if apart := incomparable(files):
        pieces += [f"**{APART}**", *_items(apart)]
    for part in parts_of(files):
        pieces += _part(part)
    for file in speed:
        found = (tables.speed_table(file), tables.facts_table(file))
        pieces += [f"## {escaped(file.title)}", *map(table_text, found), *_command(file)]
    pieces += ["## Words", *(f"- **{word}**: {escaped(meaning)}" for word, meaning in WORDS)]
    text = pieces[0]
    for before, piece in pairwise(pieces):
        text += ("\n" if before.startswith("- ") and piece.startswith("- ") else "\n\n") + piece
    return text + "\n"


def _part(part: Part) -> list[str]:
    pieces = [f"## {escaped(part.model)}"]
    for summary in _summaries(part):
        pieces += [escaped(summary.lead), *_items(summary.budgets)]
    if found := warnings_of(part):
        pieces += ["**Read with care**", *_items(found)]
    for block in part.blocks:
        pieces += [f"### {escaped(block.title)}", *map(table_text, _all_tables(block))]
    if part.moved:
        moved = [tables.moved_table(block.title, moves, block.per) for block, moves in part.moved]
        pieces += ["### The question moved to the front", *map(table_text, moved), escaped(paper.MOVED)]
    if published := paper.published_for(part):
        pieces.append("### Beside the paper")
        for each, blocks in published:
            theirs, ours = tables.paper_tables(each, blocks)
            pieces += map(table_text, theirs + ours)
    pieces.append("### How it was measured")
    for file in part.files:
        pieces += [table_text(tables.facts_table(file)), *_command(file)]
    return pieces


def _summaries(part: Part) -> list[Summary]:
    return [summary for block in part.blocks if (summary := summary_of(block))]


def _all_tables(block: Block) -> list[Table]:
    found = [*tables.score_tables(block), *tables.compared_tables(block), *tables.task_tables(block).values()]
    return [*found, *tables.needle_tables(block), *tables.layer_tables(block)]


def _items(lines: Iterable[str]) -> list[str]:
    return [f"- {escaped(line)}" for line in lines]


def _command(file: ResultFile | SpeedFile) -> list[str]:
    return [f"    {visible(file.command)}"] if file.command else []


def escaped(text: str) -> str:
    """One line that Markdown shows as it is written."""
    line = one_line(text).replace("&", "&amp;")
    return _SPECIAL.sub(lambda found: _ENTITIES.get(found[0], f"\\{found[0]}"), line)


def table_text(table: Table) -> str:
    """Caption, table and note; the best in bold."""
    header = [table.corner, *table.columns]
    lines = [[escaped(name), *(_cell(cell, table.exact) for cell in cells)] for name, cells in table.lines]
    body = [_joined(map(escaped, header)), "|" + "---|" * len(header), *map(_joined, lines)]
    note = ["", escaped(table.note)] if table.note else []
    return "\n".join([f"**{escaped(table.caption)}**", "", *body, *note])


def _joined(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell, exact: bool) -> str:
    text = escaped(cell.text)
    text = f"**{text}**" if cell.best else text
    return f"{text} [{escaped(cell.detail)}]" if exact and cell.detail else text
