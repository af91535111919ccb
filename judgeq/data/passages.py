"""Passages of texts, put together to documents: Python's own reference manual, and any folder of text files.

Knows nothing of the questions about them.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from judgeq.data.lengths import count_tokens, draw_length, fit
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import SEPARATOR

SUFFIXES = (".txt", ".md", ".rst")
BORDERS = ("\n\n", "\n", " ")
UNDERLINE = re.compile(r"([=*~^+\"'#-])\1{2,}")
GAP = re.compile(r"\n(?:[ \t]*\n)+")
"""Between two paragraphs."""
SHORTEST_PASSAGE = 150  # tokens
ENOUGH = 0.9
"""A document that has so much of its length begins no further passage."""


@dataclass(frozen=True)
class Text:
    """A text to take passages from; its title, which names the subject, may be empty."""

    title: str
    body: str

    @cached_property
    def paragraphs(self) -> tuple[int, ...]:
        """Where they begin in `body`."""
        return (0, *(found.end() for found in GAP.finditer(self.body)))


@cache
def manual_texts() -> tuple[Text, ...]:
    """The sections of the reference manual, each once, in a fixed order.

    Raises:
        InputError: this Python comes without it.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise InputError("This Python has no pydoc_data with its reference manual: use a folder of texts") from error
    sections = [section for name in sorted(topics) for section in _sections(topics[name])]
    return tuple({section.body: section for section in sections}.values())


def _sections(text: str) -> Iterator[Text]:
    """A text cut before each of its headings, which are lines with a line of signs below."""
    lines = text.split("\n")
    starts = [
        at
        for at in range(len(lines) - 1)
        if lines[at].strip() and UNDERLINE.fullmatch(lines[at + 1]) and len(lines[at]) == len(lines[at + 1])
    ]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        body = "\n".join(lines[start:end]).strip()
        if body.count("\n") > 2:  # more than a heading
            yield Text(f"“{lines[start]}”", body)


def folder_texts(path: Path) -> tuple[Text, ...]:
    """The texts in a file or a folder, in the order of their names.

    Raises:
        InputError: there is none, or one cannot be read.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {path}: check its name")
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES)
    texts = []
    for file in files:
        try:
            body = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"{file} is not UTF-8 text: convert it, or leave it out") from None
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
        if body.strip():
            texts.append(Text("", body.strip()))
    if not texts:
        raise InputError(f"{path} has no text: give a file, or a folder of {', '.join(SUFFIXES)} files")
    return tuple(texts)


def draw_document(
    lm: LanguageModel,
    texts: Sequence[Text],
    tokens: tuple[int, int],
    rng: random.Random,
    shares: tuple[float, float],
) -> tuple[str, tuple[str, ...]]:
    """Passages until a random length is reached, cut at the end of a paragraph where one is in reach; their titles."""
    length = draw_length(tokens, rng)
    pieces: list[str] = []
    titles: list[str] = []
    total = 0
    for text, start, end in _spans(texts, rng):
        left = length - total
        wanted = min(left, max(SHORTEST_PASSAGE, round(length * rng.uniform(*shares))))
        shortest = max(wanted // 2, tokens[0] - total) if wanted == left else wanted // 2
        piece = _passage(lm, text.body, start, end, wanted, shortest)
        pieces.append(piece)
        titles += [text.title] if text.title and not start else []
        total += count_tokens(lm, piece + SEPARATOR)
        was_cut = wanted == left and start + len(piece) < end
        if total >= length or (total >= tokens[0] and (was_cut or total >= ENOUGH * length)):
            break
    if total < tokens[0]:
        raise InputError(
            f"The texts have no document of {tokens[0]:,} tokens: ask for shorter ones, or give more or longer texts"
        )
    document = fit(lm, SEPARATOR.join(pieces), length, shortest=tokens[0], borders=BORDERS)
    return document.rstrip(), tuple(titles)


def _spans(texts: Sequence[Text], rng: random.Random) -> Iterator[tuple[Text, int, int]]:
    """Every text once, the larger the sooner, from a random paragraph to its end; then what was passed over."""
    passed_over = []
    for text in sorted(texts, key=lambda text: math.log(1 - rng.random()) / len(text.body), reverse=True):
        start = 0 if text.title and rng.random() < 0.7 else rng.choice(text.paragraphs)
        yield text, start, len(text.body)
        if start:
            passed_over.append((text, 0, start))
    yield from passed_over


def _passage(lm: LanguageModel, body: str, start: int, end: int, longest: int, shortest: int) -> str:
    """What `body` has from `start` on, before `end` and at most `longest` tokens."""
    size = 8 * longest
    while start + size < end and count_tokens(lm, body[start : start + size]) <= longest:
        size *= 2
    return fit(lm, body[start : min(end, start + size)], longest, shortest=shortest, borders=BORDERS)
