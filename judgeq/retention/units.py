"""A text's tokens, words, sentences and paragraphs as character spans, with one value per span.

For what is shown; the words that eviction keeps whole are those of `judgeq.prompts.token_words`. Works on any script
and on untrusted text. Knows nothing of what the values mean.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from judgeq.errors import InputError

Granularity = Literal["token", "word", "sentence", "paragraph"]

_WORD = re.compile(r"cm*|w[wm]*(?:iw[wm]*)*|[pmi]+")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[”’」』）]*|\n[^\S\n]*(?=\n)")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


def unit_values(
    text: str, offsets: np.ndarray, values: np.ndarray, granularity: Granularity
) -> tuple[np.ndarray, np.ndarray]:
    """Units of a text and their values.

    A token or a word has the value of its best token, since one piece of a name often carries all of it; a sentence or
    a paragraph has the mean over its tokens. Punctuation is a unit apart from its word.

    Args:
        offsets: (T, 2) character spans in `text`; tokens that share a character may overlap.
        values: (T,) float64.

    Returns:
        (n, 2) int64 disjoint ascending spans without space around them, and (n,) float64.
    """
    if granularity not in get_args(Granularity):
        raise InputError(f"granularity is {granularity!r}: choose one of {', '.join(get_args(Granularity))}")
    if granularity in ("sentence", "paragraph"):
        spans = spans_of(text, granularity)
        return spans, _means(offsets, values, spans)
    tokens, best = _merged(text, offsets, values)
    if granularity == "token":
        return tokens, best
    words = words_of(text)
    by_character = np.zeros(len(text) + 1)
    for (first, last), value in zip(tokens.tolist(), best.tolist(), strict=True):
        by_character[first:last] = value
    return words, np.maximum.reduceat(by_character, words.ravel())[::2] if len(words) else np.zeros(0)


def spans_of(text: str, granularity: Granularity) -> np.ndarray:
    """(n, 2) spans of words, sentences or paragraphs; an `InputError` for anything else."""
    known = {"word": words_of, "sentence": sentences_of, "paragraph": paragraphs_of}
    if granularity not in known:
        raise InputError(f"granularity is {granularity!r}: choose one of {', '.join(known)}")
    return known[granularity](text)


def unit_of_tokens(text: str, offsets: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """(T,) int64: for each token the unit in which its last character that is no space lies; -1 = none.

    Args:
        offsets: (T, 2) character spans of tokens in `text`.
        spans: (n, 2) disjoint ascending spans of units.
    """
    if not len(spans):
        return np.full(len(offsets), -1)
    last = np.array([first + len(text[first:end].rstrip()) - 1 for first, end in offsets.tolist()], dtype=np.int64)
    unit = np.searchsorted(spans[:, 0], last, side="right") - 1
    return np.where((last >= offsets[:, 0]) & (unit >= 0) & (last < spans[unit, 1]), unit, -1)


def words_of(text: str) -> np.ndarray:
    """(n, 2) spans of words and of runs of punctuation; each CJK character is a word of its own."""
    kinds = text.translate({ord(char): _kind(char) for char in set(text)})
    return _spans([match.span() for match in _WORD.finditer(kinds)])


def sentences_of(text: str) -> np.ndarray:
    """(n, 2) spans of sentences, without the space around them; a blank line ends a sentence too."""
    return _trimmed(text, [match.end() for match in _SENTENCE_END.finditer(text)])


def paragraphs_of(text: str) -> np.ndarray:
    """(n, 2) spans between blank lines; between line ends where there is no blank line."""
    ends = [match.end() for match in _BLANK_LINE.finditer(text)]
    return _trimmed(text, ends or [match.end() for match in re.finditer(r"\n", text)])


def is_word(piece: str) -> bool:
    """Whether a piece of text has a letter or a digit."""
    return any(char.isalnum() for char in piece)


def _merged(text: str, offsets: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens without surrounding space; those that share a character or combine into one are merged."""
    units: list[tuple[int, int, float]] = []
    for first, last, value in sorted(zip(*offsets.T.tolist(), values.tolist(), strict=True)):
        piece = text[first:last]
        start, end = last - len(piece.lstrip()), first + len(piece.rstrip())
        if start >= end:
            continue
        if units and (start < units[-1][1] or _joins(text[start])):
            before = units.pop()
            units.append((before[0], max(before[1], end), max(before[2], value)))
        else:
            units.append((start, end, value))
    return _spans([unit[:2] for unit in units]), np.array([unit[2] for unit in units])


def _means(offsets: np.ndarray, values: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """(n,) mean over the tokens whose last character lies in each span; 0 where there is none."""
    if not len(spans) or not len(offsets):
        return np.zeros(len(spans))
    last = offsets[:, 1] - 1
    unit = np.searchsorted(spans[:, 0], last, side="right") - 1
    inside = (unit >= 0) & (last < spans[unit, 1])
    totals = np.bincount(unit[inside], values[inside], minlength=len(spans))
    counts = np.bincount(unit[inside], minlength=len(spans))
    return np.divide(totals, counts, out=np.zeros(len(spans)), where=counts > 0)


def _kind(char: str) -> str:
    """Class of a character for `_WORD`: space, mark, CJK, word, inner punctuation, other punctuation."""
    if char.isspace():
        return " "
    if _joins(char):
        return "m"
    if "\u3040" <= char <= "\u30ff" or "\u3400" <= char <= "\u9fff" or "\U00020000" <= char <= "\U0003ffff":
        return "c"
    if char.isalnum() or char == "_":
        return "w"
    return "i" if char in "'’.,-‑·" else "p"


def _joins(char: str) -> bool:
    """Whether a character belongs to the one before it: combining marks, joiners, variation selectors."""
    return unicodedata.category(char)[0] == "M" or char in "\u200c\u200d"


def _trimmed(text: str, ends: list[int]) -> np.ndarray:
    spans = []
    for start, end in pairwise([0, *ends, len(text)]):
        piece = text[start:end]
        if piece.strip():
            first = end - len(piece.lstrip())
            spans.append((first, first + len(piece.strip())))
    return _spans(spans)


def _spans(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
