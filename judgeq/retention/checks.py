"""What a retention map's parts must be: row indices, indices into layers and heads, spans of characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from judgeq.errors import InputError
from judgeq.values import whole

if TYPE_CHECKING:
    from judgeq.retention.map import RetentionMap


def checked_rows(rows: Sequence[int] | np.ndarray, tokens: int) -> np.ndarray:
    """Row indices as a read-only int32 array.

    Raises:
        InputError: they are not ascending whole numbers below `tokens`.
    """
    found = np.asarray(rows)
    if found.size == 0:
        found = found.astype(np.int32)
    whole = found.ndim == 1 and found.dtype.kind in "iu"
    ascending = whole and bool((found[1:] > found[:-1]).all())
    if not ascending or (found.size and not 0 <= int(found[0]) <= int(found[-1]) < tokens):
        raise InputError(
            f"RetentionMap.kept must hold ascending whole numbers from 0 to {tokens - 1} per head"
        )
    found = found.astype(np.int32)
    found.setflags(write=False)
    return found


def is_index(value: object, length: int) -> bool:
    """Whether it is a whole number from 0 to `length - 1`."""
    found = whole(value)
    return found is not None and 0 <= found < length


def check_span(found: RetentionMap, start: int, end: int) -> range:
    """The tokens of a span of the document's characters.

    Raises:
        InputError: no such span, or no token in it.
    """
    length = found.document[1] - found.document[0]
    if not (is_index(start, length) and is_index(end, length + 1) and start < end):
        raise InputError(
            f"The span is {start!r} to {end!r}: give two whole numbers from 0 to {length}, the document's characters, "
            "the smaller one first"
        )
    tokens = found.tokens_at(start, end)
    if not tokens:
        raise InputError(
            "No token of the prompt lies in this span: give one that holds words of the document"
        )
    return tokens


def check_same_prompt(found: RetentionMap, other: RetentionMap) -> None:
    """Raise an `InputError` unless two maps can be laid over one another."""
    ours, theirs = (
        (each.text, each.offsets, each.document, each.layers, each.kv_heads) for each in (found, other)
    )
    if ours != theirs:
        raise InputError(
            "The two maps are not of one prompt that one model has read: compare methods of one run"
        )


def stacked_scores(scores: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """(L, H_kv, T), NaN for layers without scores; None if no layer has any."""
    known = [score for score in scores if score is not None]
    if not known:
        return None
    return np.stack([np.full_like(known[0], np.nan) if score is None else score for score in scores])
