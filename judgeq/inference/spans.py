"""Spans of a document's characters that are pinned or dropped, and the prompt's rows that belong to them.

Knows nothing of scores, methods or caches.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from judgeq.errors import InputError
from judgeq.methods.selection import Forced
from judgeq.prompts.prompt import Prompt
from judgeq.values import several, whole

Span = tuple[int, int]
"""First character and one past the last, counted in the document as given; any sequence of two whole numbers."""
SHOWN = 40
"""Characters of the document that a message repeats."""


def rows_of(prompt: Prompt, document: str, spans: Iterable[Span]) -> list[int]:
    """The tokens that hold at least one character of the spans, ascending.

    Args:
        document: the text in which spans count, before the prompt strips blanks from its ends.
        spans: they may overlap.

    Raises:
        InputError: a span outside the document or only of blanks at its ends, or a document that was cut.
    """
    return _rows_with(prompt, document, _covered(prompt, document, spans, "span"))


def spans_of(spans: Span | Iterable[Span]) -> list[Any]:
    """Several spans, or the only one."""
    found = several(spans)
    return [found] if len(found) == 2 and None not in map(whole, found) else found


def forced_rows(prompt: Prompt, document: str, pinned: Span | Iterable[Span], dropped: Span | Iterable[Span]) -> Forced:
    """Pinned and dropped rows. A token with characters of both kinds is pinned.

    Args:
        document: see `rows_of`.
        pinned, dropped: a span, or several; those of one kind may overlap.

    Raises:
        InputError: see `rows_of`; or a character that is both pinned and dropped.
    """
    keep = _covered(prompt, document, spans_of(pinned), "pinned span")
    drop = _covered(prompt, document, spans_of(dropped), "dropped span")
    both = np.flatnonzero(keep & drop)
    if len(both):
        words = " ".join(document[both[0] : both[0] + SHOWN].split())
        raise InputError(f"A pinned span and a dropped one overlap at “{words}”: decide for one of them")
    kept = _rows_with(prompt, document, keep)
    gone = set(_rows_with(prompt, document, drop)).difference(kept)
    return Forced(tuple(kept), tuple(sorted(gone)))


def _covered(prompt: Prompt, document: str, spans: Iterable[Span], name: str) -> np.ndarray:
    """(characters,) whether each character of the document as it was given is in a span."""
    spans = list(spans)
    if spans and prompt.cut_tokens:
        raise InputError(
            f"The {name} {_shown(spans[0])} counts characters of the whole document, and its middle was cut: shorten "
            "the document yourself, or leave the span out"
        )
    covered = np.zeros(len(document), dtype=bool)
    for span in spans:
        first, last = _checked(document, span, name)
        if not document[first:last].strip() and not (document[:first].strip() and document[last:].strip()):
            raise InputError(
                f"The {name} {_shown(span)} holds nothing but blanks at the document's ends: choose another"
            )
        covered[first:last] = True
    return covered


def _rows_with(prompt: Prompt, document: str, covered: np.ndarray) -> list[int]:
    """The tokens with a character that is covered; see `_covered`."""
    start, end = prompt.document
    first = len(document) - len(document.lstrip())  # the prompt lacks these blanks
    before = np.concatenate([[0], covered[first : first + end - start].cumsum()])  # each character
    spans = np.asarray(prompt.offsets).clip(start, end) - start
    return np.flatnonzero(before[spans[:, 1]] > before[spans[:, 0]]).tolist()


def _checked(document: str, span: Span, name: str) -> Span:
    numbers = [whole(value) for value in several(span)]
    first, last = numbers if len(numbers) == 2 else (None, None)
    if first is None or last is None or not 0 <= first < last <= len(document):
        raise InputError(
            f"The {name} is {_shown(span)}: give (first, last), two positions in the document's "
            f"{len(document):,} characters, the last one past the end"
        )
    return first, last


def _shown(span: object) -> str:
    """A span in an error message, with numbers of numpy and PyTorch as plain ones."""
    parts = several(span)
    numbers = [part if whole(part) is None else whole(part) for part in parts]
    return repr(numbers[0] if numbers == [span] else tuple(numbers))
