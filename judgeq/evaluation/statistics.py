"""How far a mean of scores can be trusted: bootstrap intervals over questions. Pure functions over numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from judgeq.values import seed64

DRAWS = 2000
LEVEL = 0.95


def mean(groups: Sequence[Sequence[float]]) -> float:
    """The mean of the groups' means: every task counts the same, however many questions it has."""
    return float(np.mean([np.mean(group) for group in groups]))


def bootstrap_interval(groups: Sequence[Sequence[float]], seed: int) -> tuple[float, float]:
    """Where `mean` would lie with other questions: percentiles over samples with replacement inside each group.

    For a paired comparison the numbers are differences, one a question. Samples of few questions spread too little, by
    the root of `(n - 1) / n`: that is made good. Where a group has a single question, which does not spread at all, the
    questions of all groups are drawn from together.

    Args:
        groups: scores of each task, none of them empty.
        seed: of the samples.
    """
    rng = np.random.default_rng(seed64(seed))
    values = [np.asarray(group, dtype=float) for group in groups]
    everything = np.concatenate(values)
    if min(map(len, values)) == 1:
        values = [everything]
    spread = np.zeros(DRAWS)
    for group in values:
        chosen = rng.integers(len(group), size=(DRAWS, len(group)))
        scale = math.sqrt(len(group) / max(len(group) - 1, 1))
        spread += scale * (group[chosen].mean(axis=1) - group.mean())
    ends = mean(groups) + np.quantile(spread / len(values), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = ends.clip(everything.min(), everything.max())
    return float(low), float(high)
