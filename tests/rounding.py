"""Two ways to compute the same, compared as far as they agree on every processor.

Kernels add in another order, and which kernel runs depends on the processor and the number of rows. So figures agree to
some digits, and of rows whose scores are as good as equal the one or the other stays: of one token that comes again and
again, say, whose key is equally long each time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MOST_MOVED = 2
"""Rows that may stand on the other side of a cut that other scores have made, or one in a hundred if that is more."""


def moved_rows(ours: Iterable[Any], theirs: Iterable[Any], scores: Sequence[Any] | None = None) -> int:
    """How many rows were kept here and not there.

    Args:
        ours, theirs: as `Retained.kept` or `RetentionMap.kept` have them, layer by layer.
        scores: as `Retained.scores` or `RetentionMap.scores` have them; rows that are worth the same there may move.

    Raises:
        AssertionError: more than rounding explains, or another number of rows.
    """
    pairs = [(_heads(one), _heads(other)) for one, other in zip(ours, theirs, strict=True)]
    held = moved = unexplained = 0
    for layer, (one, other) in enumerate(pairs):
        worth = None if scores is None or scores[layer] is None else np.asarray(scores[layer])
        for head, (mine, yours) in enumerate(zip(one, other, strict=True)):
            assert len(mine) == len(yours)
            held, moved = held + len(mine), moved + len(mine - yours)
            if worth is None or not _equal(worth.reshape(-1, worth.shape[-1])[head], mine, yours):
                unexplained += len(mine - yours)
    assert unexplained <= max(MOST_MOVED, held // 100), f"{unexplained} of {held} rows are others"
    return moved


def _equal(worth: np.ndarray, ours: set[int], theirs: set[int]) -> bool:
    """Whether rows stay here that are worth what those are that stay there."""
    mine, yours = (np.sort(worth[sorted(rows)]) for rows in (ours - theirs, theirs - ours))
    return np.allclose(mine, yours, rtol=1e-4)


def _heads(layer: Any) -> list[set[int]]:
    """The rows of each head; those of a batch of one may lie in one tensor."""
    return [{*head} for rows in (() if layer is None else layer) for head in rows.reshape(-1, rows.shape[-1]).tolist()]
