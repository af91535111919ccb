"""Spans of a document's characters that must stay or go, and the rows of the prompt that this means.

Knows nothing of scores, methods or caches.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from judgeq.errors import InputError
from judgeq.prompts import Prompt
from judgeq.selection import Forced

Span = tuple[int, int]
"""First character and one past the last, counted in the document as it was given."""
SHOWN = 40
"""Characters of the document that a message repeats."""


def rows_of(prompt: Prompt, document: str, spans: Iterable[Span], name: str = "span") -> list[int]:
    """The tokens that hold at least one character of the spans, ascending.

    Args:
        document: the text that spans count in, before the prompt took the blanks from its ends.
        spans: they may overlap.
        name: how a message calls one.

    Raises:
        InputError: no span inside the document, one of nothing but blanks at its ends, or a document that was cut.
    """
    return _rows_with(prompt, document, _covered(prompt, document, spans, name))


def forced_rows(prompt: Prompt, document: str, pinned: Iterable[Span], dropped: Iterable[Span]) -> Forced:
    """Rows that stay and rows that go. A token that two neighbours share stays.

    Args:
        document: see `rows_of`.
        pinned, dropped: spans; those of one kind may overlap.

    Raises:
        InputError: see `rows_of`; or a character that must both stay and go.
    """
    stays = _covered(prompt, document, pinned, "pinned span")
    goes = _covered(prompt, document, dropped, "dropped span")
    both = np.flatnonzero(stays & goes)
    if len(both):
        words = " ".join(document[both[0] : both[0] + SHOWN].split())
        raise InputError(f"A pinned span and a dropped one overlap at “{words}”: decide for one of them")
    stay = _rows_with(prompt, document, stays)
    gone = set(_rows_with(prompt, document, goes)).difference(stay)
    return Forced(tuple(stay), tuple(sorted(gone)))


def _covered(prompt: Prompt, document: str, spans: Iterable[Span], name: str) -> np.ndarray:
    """(characters,) whether each character of the document as it was given is in a span."""
    spans = list(spans)
    if spans and prompt.cut_tokens:
        raise InputError(
            f"The {name} {tuple(spans[0])!r} counts characters of the whole document, and its middle was cut: shorten "
            "the document yourself, or leave the span out"
        )
    covered = np.zeros(len(document), dtype=bool)
    for span in spans:
        first, last = _checked(document, span, name)
        if not document[first:last].strip() and not (document[:first].strip() and document[last:].strip()):
            raise InputError(
                f"The {name} {tuple(span)!r} holds nothing but blanks at the document's ends: choose another"
            )
        covered[first:last] = True
    return covered


def _rows_with(prompt: Prompt, document: str, covered: np.ndarray) -> list[int]:
    """The tokens with a character that is covered; see `_covered`."""
    start, end = prompt.document
    first = len(document) - len(document.lstrip())  # the prompt begins behind these blanks
    before = np.concatenate(
        [[0], covered[first : first + end - start].cumsum()]
    )  # in front of each character
    spans = np.asarray(prompt.offsets).clip(start, end) - start
    return np.flatnonzero(before[spans[:, 1]] > before[spans[:, 0]]).tolist()


def _checked(document: str, span: Span, name: str) -> Span:
    numbers = [value for value in span if isinstance(value, int) and not isinstance(value, bool)]
    if len(span) != 2 or len(numbers) != 2 or not 0 <= numbers[0] < numbers[1] <= len(document):
        raise InputError(
            f"The {name} is {tuple(span)!r}: give (first, last), two positions in the document's "
            f"{len(document):,} characters, the last one past the end"
        )
    return numbers[0], numbers[1]
