"""A keepsake as a picture of 1200 x 630, the size that messengers and networks show whole.

The question, up to three answers with what they kept, and the stretch of the document that was kept best.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from judgeq.export.figures import size
from judgeq.export.page import title
from judgeq.export.pen import Pen, right_to_left
from judgeq.retention.rendering import level_of, visible
from judgeq.retention.still import colours

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

    from judgeq.export.record import Keepsake
    from judgeq.inference.answers import Answer
    from judgeq.retention import RetentionMap

WIDTH, HEIGHT, EDGE, GAP = 1200, 630, 52, 24
SHOWN = 3
"""Answers that find room."""
SANS, BOLD, SERIF, TITLE = "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold"
INK, SOFT, PAPER, PAGE, LINE = (
    "#1d1b17", "#5f5b54", "#fffefb", "#faf7f0", "#ddd6c8",
)  # fmt: skip
MARKS = ("", "", "#fff2c4", "#ffe08a", "#fcc64d", "#f5a62b")
"""Behind a word of each level, as in the retention map."""
GONE, TRACED = "#6a665f", "#c9c0b0"
LEADING = 31
STRIPS = "Strips: the prompt from its beginning to its end, bright where notes were kept."
BOXES = "□ stands where no font here has the character."


@dataclass(frozen=True)
class _Piece:
    """A part of a word that is marked as one; `first` begins a word, `breaks` a line."""

    text: str
    level: int
    first: bool
    breaks: bool


def to_png(keepsake: Keepsake) -> bytes:
    """See `Keepsake.to_png`."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, HEIGHT), PAGE)
    draw = ImageDraw.Draw(picture)
    pens = {name: Pen(*look) for name, look in _PENS.items()}
    bottom = _question(draw, pens, keepsake)
    shown = _chosen(keepsake)
    room = (WIDTH - 2 * EDGE - (len(shown) - 1) * GAP) / len(shown)
    for place, answer in enumerate(shown):
        _card(picture, draw, pens, answer, (EDGE + place * (room + GAP), bottom, room))
    told = keepsake.answers[keepsake.told]
    _document(draw, pens, told, bottom + CARD + 44)
    _foot(draw, pens, keepsake)
    target = io.BytesIO()
    picture.save(target, "PNG", optimize=True)
    return target.getvalue()


_PENS = {
    "question": (TITLE, 34),
    "name": (BOLD, 19),
    "answer": (SERIF, 21),
    "figure": (SANS, 16),
    "text": (SERIF, 20),
    "fine": (SANS, 15),
}
CARD = 212
"""Height of an answer."""


def _question(draw: ImageDraw, pens: dict[str, Pen], keepsake: Keepsake) -> float:
    """Returns where the next thing may begin."""
    pen, base = pens["question"], 78.0
    lines = pen.lines(visible(keepsake.question), WIDTH - 2 * EDGE, 2)
    for line in lines:
        _line(draw, pen, (EDGE, base, WIDTH - 2 * EDGE), line, INK)
        base += 44
    return base - 16


def _chosen(keepsake: Keepsake) -> list[Answer]:
    """The first answers, with the one whose map is shown among them."""
    shown = list(keepsake.answers[:SHOWN])
    if keepsake.told >= SHOWN:
        shown[-1] = keepsake.answers[keepsake.told]
    return shown


def _card(
    picture: Image, draw: ImageDraw, pens: dict[str, Pen], answer: Answer, place: tuple[float, float, float]
) -> None:
    """Name, answer, how much was kept, and where in the document: a strip of the prompt, all layers together."""
    from PIL import Image as Images

    x, y, room = place
    inner, left = room - 40, x + 20
    draw.rounded_rectangle((x, y, x + room, y + CARD), 12, fill=PAPER, outline=LINE)
    pens["name"].write(draw, (left, y + 36), pens["name"].fitted(title(answer.method), inner), INK)
    lines = pens["answer"].lines(visible(answer.text) or "No answer.", inner, 3)
    for row, line in enumerate(lines):
        _line(draw, pens["answer"], (left, y + 72 + 29 * row, inner), line, INK)
    counts = answer.retention.kept_rows.mean()
    told = f"{counts:,.0f} of {answer.prompt_tokens:,} notes: {size(answer.kv_bytes)}"
    pens["figure"].write(draw, (left, y + 163), pens["figure"].fitted(told, inner), SOFT)
    values = answer.retention.layer_profile(min(int(inner), answer.retention.tokens)).mean(axis=0)
    strip = Images.fromarray(colours(values)[None]).resize((int(inner), 18), Images.Resampling.NEAREST)
    picture.paste(strip, (int(left), int(y + 176)))


def _document(draw: ImageDraw, pens: dict[str, Pen], answer: Answer, base: float) -> None:
    pen = pens["text"]
    lines = list(_wrapped(pen, answer.retention, WIDTH - 2 * EDGE))
    most = max(1, int((HEIGHT - 62 - base) // LEADING) + 1)
    weights = [sum(len(piece.text) * piece.level for piece in line if piece.level > 2) for line in lines]
    start = (
        int(np.argmax(np.convolve(weights, np.ones(min(most, len(lines)), dtype=int), "valid")))
        if lines
        else 0
    )
    name = title(answer.method)
    said = f"What {name} still holds of the document: the stronger the mark, the more of the model’s heads."
    pens["fine"].write(draw, (EDGE, base - 12), said, SOFT)
    for row, line in enumerate(lines[start : start + most]):
        _marked(draw, pen, (EDGE, base + 22 + LEADING * row), line)


def _wrapped(pen: Pen, found: RetentionMap, room: float) -> Iterator[list[_Piece]]:
    """The document's words in lines."""
    space, line, used = pen.width(" "), list[_Piece](), 0.0
    for word in _words(found):
        width = sum(pen.width(piece.text) for piece in word)
        if line and (word[0].breaks or used + space + width > room):
            yield line
            line, used = [], 0.0
        used += width + (space if line else 0)
        line.extend(word)
    if line:
        yield line


def _words(found: RetentionMap) -> Iterator[list[_Piece]]:
    """Pieces between two spaces, longer ones cut, so that every one fits into a line."""
    text = visible(found.document_text)
    spans, shares = found.units("word")
    word: list[_Piece] = []
    end = 0
    for (first, last), level in zip(spans.tolist(), level_of(shares).tolist(), strict=True):
        gap = text[end:first]
        if word and (gap or sum(len(piece.text) for piece in word) > 30):
            yield word
            word = []
        piece = text[first:last]
        word.append(_Piece(piece if len(piece) <= 40 else f"{piece[:39]}…", level, not word, "\n" in gap))
        end = last
    if word:
        yield word


def _marked(draw: ImageDraw, pen: Pen, place: tuple[float, float], line: list[_Piece]) -> None:
    """One line, neighbours of one level under one mark."""
    x, base = place
    backwards = right_to_left("".join(piece.text for piece in line))
    space = pen.width(" ")
    placed: list[tuple[float, float, _Piece]] = []
    for index, piece in enumerate(line):
        before = x
        x += space if index and piece.first else 0
        end = x + pen.width(piece.text)
        joined = index > 0 and line[index - 1].level == piece.level
        _mark(draw, (before if joined else x, end), base, piece.level, backwards)
        placed.append((x, end, piece))
        x = end
    for start, end, piece in placed:
        left = WIDTH - end if backwards else start
        pen.write(draw, (left, base), piece.text, INK if piece.level else GONE)


def _mark(draw: ImageDraw, ends: tuple[float, float], base: float, level: int, backwards: bool) -> None:
    left, right = (WIDTH - ends[1], WIDTH - ends[0]) if backwards else ends
    if MARKS[level]:
        draw.rectangle((left - 1, base - 20, right + 1, base + 7), fill=MARKS[level])
    if level == 1:
        draw.line([(round(left), base + 5), (round(right), base + 5)], TRACED, 1)
    elif level:
        draw.line([(round(left), base + 5), (round(right), base + 5)], "#7a4300", 2 if level > 3 else 1)


def _foot(draw: ImageDraw, pens: dict[str, Pen], keepsake: Keepsake) -> None:
    pen = pens["fine"]
    boxes = any(each.missing for each in pens.values())
    told = f"Judge Q · {keepsake.settings.model} · {keepsake.made:%d %B %Y}"
    pen.write(draw, (EDGE, HEIGHT - 26), pen.fitted(visible(told), 440), SOFT)
    note = BOXES if boxes else STRIPS
    pen.write(draw, (WIDTH - EDGE - pen.width(note), HEIGHT - 26), note, SOFT)


def _line(draw: ImageDraw, pen: Pen, place: tuple[float, float, float], text: str, fill: str) -> None:
    """One line from the side where its script begins."""
    x, base, room = place
    pen.write(draw, (x + room - pen.width(text) if right_to_left(text) else x, base), text, fill)
