"""Two ways to compute the same, compared as far as they agree on every processor.

Kernels add in another order, and which kernel runs depends on the processor and the number of rows. So figures agree to
some digits, and of two rows whose scores are nearly equal at the cut the one or the other stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

MOST_MOVED = 2
"""Rows that may stand on the other side of the cut, or one in a hundred if that is more."""


def moved_rows(ours: Iterable[Any], theirs: Iterable[Any]) -> int:
    """How many rows were kept here and not there.

    Args:
        ours, theirs: as `Retained.kept` or `RetentionMap.kept` have them, layer by layer.

    Raises:
        AssertionError: more than rounding explains, or another number of rows.
    """
    pairs = list(zip(_heads(ours), _heads(theirs), strict=True))
    held = sum(len(one) for one, _ in pairs)
    assert held == sum(len(other) for _, other in pairs)
    moved = sum(len(one - other) for one, other in pairs)
    assert moved <= max(MOST_MOVED, held // 100), f"{moved} of {held} rows are others"
    return moved


def _heads(kept: Iterable[Any]) -> Iterator[set[int]]:
    for layer in kept:
        for rows in () if layer is None else layer:
            yield from ({*head} for head in rows.reshape(-1, rows.shape[-1]).tolist())
