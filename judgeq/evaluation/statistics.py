"""How far a mean of scores can be trusted: bootstrap intervals over questions. Pure functions over numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 2000
LEVEL = 0.95


def mean(groups: Sequence[Sequence[float]]) -> float:
    """The mean of the groups' means: every task counts the same, however many questions it has."""
    return float(np.mean([np.mean(group) for group in groups]))


def bootstrap_interval(groups: Sequence[Sequence[float]], seed: int) -> tuple[float, float]:
    """Where `mean` would lie with other questions: percentiles over samples with replacement inside each group.

    For a paired comparison the numbers are differences, one a question.

    Args:
        groups: scores of each task, none of them empty.
        seed: of the samples.
    """
    rng = np.random.default_rng(seed)
    total = np.zeros(DRAWS)
    for group in groups:
        chosen = rng.integers(len(group), size=(DRAWS, len(group)))
        total += np.asarray(group, dtype=float)[chosen].mean(axis=1)
    low, high = np.quantile(total / len(groups), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
