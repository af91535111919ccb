"""Marked text out of strings and levels: safe HTML for pages, plain text for terminals.

Every text that comes in is untrusted. Knows nothing of models or methods.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from judgeq.retention.look import CSS

LEVELS = ("no head", "few heads", "some heads", "many heads", "most heads", "all heads")
"""Names of the levels that a share of heads is shown as; the index is the level."""
BOUNDS = (
    "",
    "up to 10\N{NO-BREAK SPACE}%",
    "up to 25\N{NO-BREAK SPACE}%",
    "up to 50\N{NO-BREAK SPACE}%",
    "over 50\N{NO-BREAK SPACE}%",
    "",
)
"""What each level means."""
LEVEL_CLASSES = ("", "jq-l1", "jq-l2", "jq-l3", "jq-l4", "jq-l5")
"""Class of a mark of each level; level 0 has no mark."""

BLOCK = 600
"""Characters after which a new block of the document begins, at the next line end."""

_CONTROLS: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n\r"}
_CONTROLS |= {0x7F: "\u2421", 0x2028: "\n", 0x2029: "\n"}
_CONTROLS |= dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
_CONTROLS |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")  # override directions

_ANSI = ("2", "0", "4", "1", "1;4", "7")


def visible(text: str) -> str:
    """The text with each control character replaced by a visible one, length unchanged.

    That covers NUL, escape sequences, lone surrogates and the marks that override the direction of writing.
    """
    return text.translate(_CONTROLS)


def level_of(share: np.ndarray) -> np.ndarray:
    """Index into `LEVELS` for shares in [0, 1]; 0 and 1 are levels of their own."""
    return np.searchsorted([1e-9, 0.1 + 1e-9, 0.25 + 1e-9, 0.5 + 1e-9, 1 - 1e-9], share, side="right")


def percent(share: float) -> str:
    """A share for people: `12.4 %`, `61 %`, `below 0.1 %`."""
    value = 100 * share
    if 0 < value < 0.1:
        return "below 0.1\N{NO-BREAK SPACE}%"
    digits = 0 if value >= 20 or value == round(value) else 1
    return f"{value:.{digits}f}\N{NO-BREAK SPACE}%"


def marked_html(
    text: str, spans: np.ndarray, levels: np.ndarray, classes: Sequence[str] = LEVEL_CLASSES
) -> str:
    """The text as HTML, escaped, neighbours of one level inside one `<mark>`; level 0 stays bare.

    It comes in blocks of whole lines, so that a browser lays out those on the screen only. Together the blocks hold
    the characters of the text and nothing else; `shown_positions` says where.

    Args:
        spans: (n, 2) disjoint ascending character spans.
        levels: (n,) index into `classes` for each span.
    """
    ends = iter([*_block_ends(text), len(text)])
    position, end, blocks, pieces = 0, next(ends), [], []
    for run, level in _runs(text, spans, levels):
        while run:
            piece, run = run[: end - position], run[end - position :]
            escaped = html.escape(visible(piece))
            pieces.append(f'<mark class="{classes[level]}">{escaped}</mark>' if level else escaped)
            position += len(piece)
            if position == end:
                blocks.append(f'<p class="jq-block">{"".join(pieces)}</p>')
                end, pieces = next(ends, end), []
    return "".join(blocks).replace("\r\n", "\n").replace("\r", "\n")


def shown_positions(text: str) -> np.ndarray:
    """(n + 1,) int64: where each character of a text begins in what `marked_html` shows, in UTF-16 units.

    That is how scripts in a browser count. The last entry is the length of the whole.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    widths = 1 + (codes > 0xFFFF).astype(np.int64)
    widths[:-1][(codes[:-1] == 0x0D) & (codes[1:] == 0x0A)] = 0  # shown as one line end
    return np.concatenate([[0], np.cumsum(widths)])


def marked_text(text: str, spans: np.ndarray, levels: np.ndarray, *, ansi: bool) -> str:
    """The text for a terminal: with `ansi` every level in its own weight, else brackets from level 3 on."""
    if not ansi:
        levels = np.where(levels >= 3, 3, 0)
    pieces = []
    for piece, level in _runs(text, spans, levels):
        shown = visible(piece).replace("\r", "")
        if ansi:
            shown = f"\x1b[{_ANSI[level]}m{shown}\x1b[0m"
        elif level:
            shown = f"[{shown}]"
        pieces.append(shown)
    return "".join(pieces)


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend: the class of its marks ("" = none), name, what it means, how much of the text has it."""

    mark: str
    name: str
    bound: str
    share: float


@dataclass(frozen=True)
class Reading:
    """What a script needs to tell about a word without asking again.

    Attributes:
        hint: what stands in its place before.
        figures: JSON, see `explanation.reading_json`; it becomes an attribute of the document's box.
        methods: how many it tells of.
    """

    hint: str
    figures: str
    methods: int


def document_html(
    sentences: Sequence[str],
    title: str,
    legend: Sequence[LegendEntry],
    body: str,
    label: str,
    reading: Reading | None = None,
) -> str:
    """A self-contained fragment: sentences, legend, and a box that scrolls and takes the keyboard's focus.

    Args:
        sentences: what a person reads first, the most important one first.
        title: of the legend.
        body: the document; the only argument that is HTML already, from `marked_html`.
        label: name of the box for a screen reader.
        reading: for a page with a script that tells about the word under the pointer; None = there is none.
    """
    lead = "".join(f"<p>{_escaped(sentence)}</p>" for sentence in sentences)
    entries = "".join(
        f"<li>{_swatch(entry.mark)}<span>{_escaped(entry.name)}"
        f"{f' <i>{_escaped(entry.bound)}</i>' if entry.bound else ''}</span>"
        f"<b>{_escaped(percent(entry.share))}</b></li>"
        for entry in legend
    )
    line, figures = "", ""
    if reading:
        two = " jq-two" if reading.methods > 1 else ""
        hint = f"<p>{_escaped(reading.hint)}</p>"
        line = f'<div class="jq-reading{two}" aria-live="polite" aria-atomic="true">{hint}</div>'
        figures = f' data-reading="{_escaped(reading.figures)}"'
        label = f"{label}; arrow keys go from word to word"
    return (
        f'<div class="jq-map"><style>{CSS}</style><div class="jq-lead">{lead}</div>'
        f'<p class="jq-title">{_escaped(title)}</p><ul class="jq-legend">{entries}</ul>{line}'
        f'<div class="jq-text" dir="auto" role="region" tabindex="0" aria-label="{_escaped(label)}"{figures}>'
        f"{body}</div>"
        "</div>"
    )


def _escaped(text: str) -> str:
    return html.escape(visible(text))


def _swatch(mark: str) -> str:
    return f'<mark class="{mark}">word</mark>' if mark else '<s class="jq-gone">word</s>'


def _block_ends(text: str) -> list[int]:
    """Line ends that are at least `BLOCK` characters apart; neither 0 nor the end of the text."""
    ends = [0]
    for match in re.finditer(r"\r\n|\r|\n", text):
        if match.end() - ends[-1] >= BLOCK and match.end() < len(text):
            ends.append(match.end())
    return ends[1:]


def _runs(text: str, spans: np.ndarray, levels: np.ndarray) -> Iterator[tuple[str, int]]:
    """`(piece, level)` in reading order; space between two spans of one level belongs to their run."""
    start, end, current = 0, 0, 0
    for (first, last), level in zip(spans.tolist(), levels.tolist(), strict=True):
        gap = text[end:first]
        if level != current or gap.strip():
            if end > start:
                yield text[start:end], current
            if gap:
                yield gap, 0
            start, current = first, level
        end = last
    if end > start:
        yield text[start:end], current
    if end < len(text):
        yield text[end:], 0
