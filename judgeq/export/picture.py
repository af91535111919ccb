"""A comparison as a picture of 1200 x 630, the size that messengers and networks show whole.

The question, up to three answers with what they kept, and the stretch of the document that was kept best. Matplotlib
takes each character from the first font that has it: its own cover most alphabets, the system's the other scripts.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from judgeq.look.format import size, visible
from judgeq.look.palette import LIGHT
from judgeq.methods import title_of
from judgeq.retention.arrays import KeptRows
from judgeq.retention.figures import colours
from judgeq.retention.text import level_of

if TYPE_CHECKING:
    from judgeq.export.comparison import Comparison
    from judgeq.inference.answers import Answer

WIDTH, HEIGHT, EDGE, GAP, CARD = 1200, 630, 52, 24, 212
ROOM = WIDTH - 2 * EDGE
SHOWN = 3
"""Answers that fit."""
LEADING = 31
SANS, SERIF = "DejaVu Sans", "DejaVu Serif"
FALLBACKS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei", "Droid Sans Fallback"),
    *("PingFang SC", "Hiragino Sans GB", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Nirmala UI", "Segoe UI", "Leelawadee UI"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Thai"),
)
"""Families of Linux, macOS and Windows with the scripts that matplotlib's fonts lack."""
INK, SOFT, PAPER, PAGE, LINE = (LIGHT[name] for name in ("ink", "soft", "paper", "page", "edge"))
GONE, TRACED, UNDERLINE = LIGHT["evicted"], "#c9c0b0", LIGHT["line"]
GROUNDS = ("", "", *(LIGHT[f"level-{level}"] for level in range(2, 6)))
"""Background of a word of each level, as in the retention map."""
STRIPS = "Strips: the prompt from its beginning to its end, bright where rows were kept."
BOX = "□"
BOXES = f"{BOX} replaces a character that no font here has."


@dataclass(frozen=True)
class Style:
    """Of a text: family, pixels, weight and colour."""

    family: str
    pixels: float
    weight: str = "normal"
    color: str = INK


QUESTION, NAME, ANSWER = Style(SERIF, 34, "bold"), Style(SANS, 19, "bold"), Style(SERIF, 21)
FIGURE, TEXT, FINE = Style(SANS, 16, color=SOFT), Style(SERIF, 20), Style(SANS, 15, color=SOFT)


@dataclass(frozen=True)
class Piece:
    """A part of a word that is marked as one; `first` begins a word, `breaks` a line."""

    text: str
    level: int
    first: bool
    breaks: bool


class Canvas:
    """A figure in pixels, counted from the top left corner.

    Attributes:
        missing: whether no font had some character so far.
    """

    def __init__(self) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor=PAGE)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0), frame_on=False)
        self.axes.set_axis_off()
        self.widths: dict[tuple[str, Style], float] = {}
        self.missing = False

    def width(self, text: str, style: Style) -> float:
        """Pixels that a text takes."""
        key = text, style
        if key not in self.widths:
            self.widths[key] = self.renderer.get_text_width_height_descent(text, _font(style), False)[0]
        return self.widths[key]

    def drawable(self, text: str) -> str:
        """The text with a box for each character that no font has."""
        shown = "".join(
            char if _has_glyph(char) else BOX for char in visible(text) if unicodedata.category(char) != "Cf"
        )
        self.missing |= shown.count(BOX) > text.count(BOX)
        return shown

    def fitted(self, text: str, style: Style, room: float) -> str:
        """The text, or as much of its beginning as fits with an ellipsis."""
        if self.width(text, style) <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.width(text[:middle] + "…", style) <= room
            low, high = (middle, high) if fits else (low, middle - 1)
        return text[:low].rstrip() + "…"

    def wrapped(self, text: str, style: Style, room: float, most: int) -> list[str]:
        """At most so many lines, wrapped between words, or within one that is too long; `…` ends what is cut."""
        found: list[str] = []
        rest = text.split()
        while rest and len(found) < most:
            line = rest.pop(0)
            while rest and self.width(f"{line} {rest[0]}", style) <= room:
                line += f" {rest.pop(0)}"
            if self.width(line, style) > room:
                fits = max(1, len(self.fitted(line, style, room)) - 1)
                line, rest = line[:fits], [line[fits:], *rest]
            found.append(line)
        if rest:
            found[-1] = self.fitted(f"{found[-1]} {' '.join(rest)[:200]}", style, room)
        return found

    def write(self, text: str, style: Style, x: float, base: float, room: float = ROOM, color: str = "") -> None:
        """One line, from the side where its script begins; what does not fit is cut."""
        line = self.fitted(text, style, room)
        right = right_to_left(line)
        self.axes.text(
            x + room if right else x,
            base,
            line,
            fontproperties=_font(style),
            color=color or style.color,
            ha="right" if right else "left",
            va="baseline",
            parse_math=False,
        )

    def box(self, left: float, top: float, right: float, bottom: float, color: str) -> None:
        """A filled rectangle."""
        from matplotlib.patches import Rectangle

        self.axes.add_patch(Rectangle((left, top), right - left, bottom - top, fc=color, lw=0, aa=False))

    def png(self) -> bytes:
        """The picture as a file."""
        target = io.BytesIO()
        self.figure.savefig(target, format="png", dpi=100)
        return target.getvalue()


def to_png(comparison: Comparison) -> bytes:
    """See `Comparison.to_png`."""
    canvas, base = Canvas(), 78
    for line in canvas.wrapped(canvas.drawable(comparison.question), QUESTION, ROOM, 2):
        canvas.write(line, QUESTION, EDGE, base)
        base += 44
    featured = comparison.answers[comparison.featured]
    shown = list(comparison.answers[:SHOWN])
    if comparison.featured >= SHOWN:
        shown[-1] = featured
    room = (ROOM - (len(shown) - 1) * GAP) / len(shown)
    for place, answer in enumerate(shown):
        _card(canvas, answer, comparison.settings.answer_prefix, EDGE + place * (room + GAP), base - 16, room)
    _document(canvas, featured, base + CARD + 28)
    made = f"Judge Q · {comparison.settings.model} · {comparison.made:%d %B %Y}"
    canvas.write(canvas.drawable(made), FINE, EDGE, HEIGHT - 26, 440)
    note = BOXES if canvas.missing else STRIPS
    canvas.write(note, FINE, WIDTH - EDGE - canvas.width(note, FINE), HEIGHT - 26)
    return canvas.png()


def right_to_left(text: str) -> bool:
    """Whether most letters of a text are of a script that runs to the left."""
    kinds = [unicodedata.bidirectional(char) for char in text]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")


def _card(canvas: Canvas, answer: Answer, prefix: str, x: float, y: float, room: float) -> None:
    """Name, answer, how much was kept, and where: a strip of the prompt, all layers together."""
    from matplotlib.patches import FancyBboxPatch

    inner, left = room - 40, x + 20
    frame = FancyBboxPatch((x + 12, y + 12), room - 24, CARD - 24, boxstyle="round,pad=12", fc=PAPER, ec=LINE, lw=0.75)
    canvas.axes.add_patch(frame)
    canvas.write(title_of(answer.method), NAME, left, y + 36, inner)
    said = canvas.drawable(prefix + answer.text).strip() or "No answer."
    for row, line in enumerate(canvas.wrapped(said, ANSWER, inner, 3)):
        canvas.write(line, ANSWER, left, y + 72 + 29 * row, inner)
    counts = answer.retention.kept_rows.mean()
    kept = f"{counts:,.0f} of {answer.prompt_tokens:,} rows: {size(answer.kv_bytes)}"
    canvas.write(kept, FIGURE, left, y + 163, inner)
    values = answer.retention.layer_profile(min(int(inner), answer.retention.tokens)).mean(axis=0)
    canvas.axes.imshow(
        colours(values)[None],
        extent=(left, left + inner, y + 194, y + 176),
        aspect="auto",
        interpolation="nearest",
        zorder=2,
    )


def _document(canvas: Canvas, answer: Answer, base: float) -> None:
    """The lines of the document that are marked most."""
    name = title_of(answer.method)
    said = f"What {name} still keeps of the document: the stronger the mark, the more of the model’s heads."
    canvas.write(said, FINE, EDGE, base - 12)
    lines = list(_lines(canvas, answer.retention))
    if not lines:
        return
    most = max(1, int((HEIGHT - 80 - base) // LEADING) + 1)
    weights = [sum(len(piece.text) * piece.level for piece in line if piece.level > 2) for line in lines]
    start = int(np.argmax(np.convolve(weights, np.ones(min(most, len(lines)), dtype=int), "valid")))
    for row, line in enumerate(lines[start : start + most]):
        _marked(canvas, line, base + 22 + LEADING * row)


def _lines(canvas: Canvas, found: KeptRows) -> Iterator[list[Piece]]:
    """The document's words in lines."""
    space, line, used = canvas.width(" ", TEXT), list[Piece](), 0.0
    for word in _words(canvas, found):
        width = sum(canvas.width(piece.text, TEXT) for piece in word)
        if line and (word[0].breaks or used + space + width > ROOM):
            yield line
            line, used = [], 0.0
        used += width + (space if line else 0)
        line.extend(word)
    if line:
        yield line


def _words(canvas: Canvas, found: KeptRows) -> Iterator[list[Piece]]:
    """Pieces between two spaces, longer ones cut, so that every one fits into a line."""
    text = found.document_text
    spans, shares = found.units("word")
    word: list[Piece] = []
    end = 0
    for (first, last), level in zip(spans.tolist(), level_of(shares).tolist(), strict=True):
        gap = text[end:first]
        if word and (gap or sum(len(piece.text) for piece in word) > 30):
            yield word
            word = []
        piece = canvas.drawable(text[first:last])
        word.append(Piece(piece if len(piece) <= 40 else f"{piece[:39]}…", level, not word, "\n" in gap))
        end = last
    if word:
        yield word


def _marked(canvas: Canvas, line: list[Piece], base: float) -> None:
    """One line, neighbours of one level under one mark."""
    mirrored = right_to_left("".join(piece.text for piece in line))
    space, x = canvas.width(" ", TEXT), float(EDGE)
    for level, group in groupby(line, key=lambda piece: piece.level):
        begins = None
        for piece in group:
            x += space if piece.first and x > EDGE else 0
            begins = x if begins is None else begins
            width = canvas.width(piece.text, TEXT)
            left = WIDTH - x - width if mirrored else x
            canvas.write(piece.text, TEXT, left, base, width + 1, color=INK if level else GONE)
            x += width
        left, right = (WIDTH - x, WIDTH - (begins or x)) if mirrored else (begins or x, x)
        if GROUNDS[level]:
            canvas.box(left - 1, base - 20, right + 1, base + 7, GROUNDS[level])
        if level:
            color, thick = (TRACED, 1) if level == 1 else (UNDERLINE, 2 if level > 3 else 1)
            canvas.box(left, base + 5, right, base + 5 + thick, color)


@cache
def _font(style: Style) -> Any:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=[style.family, *_families()], weight=style.weight, size=style.pixels * 72 / 100)


@cache
def _families() -> tuple[str, ...]:
    """Those that are installed."""
    from matplotlib.font_manager import fontManager

    here = set(fontManager.get_font_names())
    return SANS, *(name for name in FALLBACKS if name in here)


@cache
def _has_glyph(char: str) -> bool:
    from matplotlib.font_manager import findfont, get_font

    fonts = (get_font(findfont(name)) for name in (SERIF, *_families()))
    return char.isspace() or any(font.get_char_index(ord(char)) for font in fonts)
