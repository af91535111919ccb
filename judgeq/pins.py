"""Spans of a document's characters that must stay or go, and the rows of the prompt that this means.

Knows nothing of scores, methods or caches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from judgeq.errors import InputError
from judgeq.prompts import Prompt
from judgeq.selection import Forced

Span = tuple[int, int]
"""First character and one past the last, counted in the document as it was given."""


def rows_of(prompt: Prompt, document: str, span: Span, name: str = "span") -> list[int]:
    """The tokens that hold at least one character of a span.

    Args:
        document: the text that `span` counts in, before the prompt took the blanks from its ends.
        name: how a message calls the span.

    Raises:
        InputError: no span inside the document, one of nothing but blanks at its ends, or a document that was cut.
    """
    if prompt.cut_tokens:
        raise InputError(
            f"The {name} {tuple(span)!r} counts characters of the whole document, and its middle was cut: shorten the "
            "document yourself, or leave the span out"
        )
    first, last = _checked(document, span, name)
    shift = prompt.document[0] - (len(document) - len(document.lstrip()))
    start, end = max(first + shift, prompt.document[0]), min(last + shift, prompt.document[1])
    spans = np.asarray(prompt.offsets)
    found = np.flatnonzero(np.minimum(spans[:, 1], end) > np.maximum(spans[:, 0], start)).tolist()
    if not found:
        raise InputError(
            f"The {name} {tuple(span)!r} holds nothing but blanks at the document's ends: choose another"
        )
    return found


def forced_rows(prompt: Prompt, document: str, pinned: Sequence[Span], dropped: Sequence[Span]) -> Forced:
    """Rows that stay and rows that go. A token that two neighbours share stays.

    Args:
        document: see `rows_of`.
        pinned, dropped: spans; those of one kind may overlap.

    Raises:
        InputError: see `rows_of`; or a character that must both stay and go.
    """
    for stays in pinned:
        for goes in dropped:
            if max(stays[0], goes[0]) < min(stays[1], goes[1]):
                raise InputError(
                    f"The span {tuple(stays)!r} is pinned and {tuple(goes)!r} is dropped, and they overlap: decide for "
                    "one of them"
                )
    stay = {row for span in pinned for row in rows_of(prompt, document, span, "pinned span")}
    go = {row for span in dropped for row in rows_of(prompt, document, span, "dropped span")}
    return Forced(tuple(sorted(stay)), tuple(sorted(go - stay)))


def _checked(document: str, span: Span, name: str) -> Span:
    numbers = [value for value in span if isinstance(value, int) and not isinstance(value, bool)]
    if len(span) != 2 or len(numbers) != 2 or not 0 <= numbers[0] < numbers[1] <= len(document):
        raise InputError(
            f"The {name} is {tuple(span)!r}: give (first, last), two positions in the document's "
            f"{len(document):,} characters, the last one past the end"
        )
    return numbers[0], numbers[1]
