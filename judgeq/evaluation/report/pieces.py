"""Pieces of the page as HTML: tables, figures, legends, choices. Every text is untrusted and escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from judgeq.evaluation.report.read import AVERAGE
from judgeq.evaluation.report.styles import SYMBOLS
from judgeq.evaluation.report.tables import MARK, Cell, Table
from judgeq.evaluation.report.words import FULL, kind_of, method_title
from judgeq.look.format import visible
from judgeq.methods import Look

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def escaped(text: str) -> str:
    """Text for HTML, also inside an attribute; control characters become visible, a figure keeps its sign."""
    return html.escape(visible(text)).replace(" %", "&nbsp;%")


def paragraph(text: str, kind: str = "") -> str:
    """One paragraph."""
    return f'<p class="{kind}">{escaped(text)}</p>' if kind else f"<p>{escaped(text)}</p>"


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{escaped(line)}</li>' for line in lines)}</ul>"


def table(found: Table) -> str:
    """A table that scrolls inside its box, with the keyboard too."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in (found.corner, *found.columns))
    body = "".join(_line(name, cells) for name, cells in found.lines)
    note = f'<p class="note">{escaped(found.note)}</p>' if found.note else ""
    return (
        f'<div class="tabled"><div class="scroll" role="region" tabindex="0" aria-label="{escaped(found.caption)}">'
        f"<table{' class=prose' if found.prose else ''}><caption><span>{escaped(found.caption)}</span></caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{note}</div>"
    )


def _line(name: str, cells: Sequence[Cell]) -> str:
    kind = " class=fails" if name.startswith(MARK) else " class=average" if name == AVERAGE else ""
    return f'<tr{kind}><th scope="row">{escaped(name)}</th>{"".join(map(_cell, cells))}</tr>'


def _cell(cell: Cell) -> str:
    text = f"<b>{escaped(cell.text)}</b>" if cell.best else escaped(cell.text)
    return f"<td>{text}{f'<small>{escaped(cell.detail)}</small>' if cell.detail else ''}</td>"


class Figures:
    """Figures of one page: each leaves a place in the text and its data at the end of the page."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def place(self, figure: Figure, title: str, *, small: bool = False) -> str:
        """HTML where the figure will be drawn, as high as it will be.

        Args:
            title: above it, and its name for a screen reader; the same numbers stand in a table.
        """
        name = f"figure-{len(self._data)}"
        data = figure.to_json().replace("<", "\\u003c")  # nothing in it can end the script element
        self._data.append(f'<script type="application/json" id="{name}">{data}</script>')
        return (
            f'<figure{" class=small" if small else ""}><figcaption title="{escaped(title)}">{escaped(title)}'
            f'</figcaption><div class="plot" role="img" aria-label="{escaped(title)}" data-figure="{name}" '
            f'style="height:{int(figure.layout.height)}px"></div></figure>'
        )

    @property
    def data(self) -> str:
        """The data of all figures."""
        return "".join(self._data)


def legend(methods: Iterable[str], styles: Mapping[str, Look]) -> str:
    """Lines and markers with their methods."""
    return f'<ul class="legend">{"".join(_entry(method, styles[method]) for method in methods)}</ul>'


def _entry(method: str, style: Look) -> str:
    dash = "" if style.dash == "solid" else f' stroke-dasharray="{style.dash.replace("px", "")}"'
    marker = (
        "" if kind_of(method) == FULL else f'<path d="{SYMBOLS[style.symbol]}" transform="translate(18 7)"/>'
    )
    return (
        f'<li><svg width="36" height="14" aria-hidden="true" fill="{style.color}"><path d="M1 7H35" '
        f'stroke="{style.color}" stroke-width="2"{dash}/>{marker}</svg>{escaped(method_title(method))}</li>'
    )


def ramp(colors: Sequence[str]) -> str:
    """The colour bar of all heatmaps, from 0 to 100 %."""
    return (
        '<p class="ramp"><span>0 %</span>'
        f'<i style="background:linear-gradient(90deg,{",".join(colors)})"></i><span>100 % found</span></p>'
    )


def chosen(name: str, questions: Sequence[tuple[str, Sequence[str]]], panels: Mapping[str, str]) -> str:
    """Panels of which one is shown; without scripts and on paper all are.

    Args:
        name: unique on the page, plain.
        questions: what is chosen, with its answers; one with a single answer is not asked.
        panels: HTML by the answers' places: `"0 2"` for the first answer to one question and the third to the next.
    """
    sets = "".join(
        f'<fieldset class="choice"{" hidden" if len(answers) < 2 else ""}><legend>{escaped(question)}</legend>'
        + "".join(_radio(f"{name}-{number}", at, answer) for at, answer in enumerate(answers))
        + "</fieldset>"
        for number, (question, answers) in enumerate(questions)
    )
    shown = "".join(f'<div data-panel="{key}">{panel}</div>' for key, panel in panels.items())
    return f'<div class="chosen">{sets}{shown}</div>'


def _radio(name: str, at: int, answer: str) -> str:
    checked = "" if at else " checked"
    return f'<label><input type="radio" name="{name}" value="{at}"{checked}>{escaped(answer)}</label>'
