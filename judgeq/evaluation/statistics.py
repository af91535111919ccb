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
    """95 % bootstrap interval of `mean`: percentiles over samples with replacement inside each group.

    For a paired comparison the numbers are differences, one per question. Bootstrap samples of `n` questions spread too
    little, by a factor of `sqrt((n - 1) / n)`, which is corrected. Where a group has a single question, which does not
    spread at all, samples are drawn from the questions of all groups together.

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
