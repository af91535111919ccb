"""Exact statements about a rate from counts: Clopper-Pearson bounds, and budgets tested in a fixed sequence.

Pure functions over numbers. No approximation: a bound holds at least as often as its confidence says, however few the
questions (Clopper and Pearson 1934, Biometrika 26).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

import numpy as np

STEPS = 60
"""Halvings of [0, 1] until a bound is found, more than a float can tell apart."""


def at_most(count: int, trials: int, rate: float) -> float:
    """The probability of `count` events or fewer among `trials` independent ones that happen with `rate`."""
    if count >= trials or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    events = np.arange(count + 1)
    factorials = np.log(np.maximum(np.arange(trials + 1), 1)).cumsum()
    ways = factorials[-1] - factorials[events] - factorials[trials - events]
    logs = ways + events * math.log(rate) + (trials - events) * math.log1p(-rate)
    return min(1.0, float(np.exp(logs).sum()))


def highest(count: int, trials: int, confidence: float) -> float:
    """The upper Clopper-Pearson bound of a rate: one-sided, so that `confidence` is its own."""
    if count >= trials:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(count, trials, middle) > 1 - confidence else (low, middle)
    return high


def lowest(count: int, trials: int, confidence: float) -> float:
    """The lower Clopper-Pearson bound of a rate, see `highest`."""
    return 1 - highest(trials - count, trials, confidence)


def shows(losses: int, trials: int, risk: float, confidence: float) -> bool:
    """Whether so few losses show that the rate of losses is at most `risk`: `highest(…) <= risk`."""
    return at_most(losses, trials, risk) <= 1 - confidence


def passed(losses: Sequence[int], trials: int, risk: float, confidence: float) -> int:
    """How many budgets are safe, tested one after the other until the first that is not.

    Fixed-sequence testing (Maurer, Hothorn and Lehmacher 1995; for risk control arXiv 2110.01052): with the order fixed
    beforehand each test has the whole confidence, and that any of those that pass is not safe still happens with a
    probability of at most `1 - confidence`. So the choice among budgets is paid for.

    Args:
        losses: at each budget, the largest budget first.
    """
    return len(list(takewhile(lambda lost: shows(lost, trials, risk, confidence), losses)))


def more_trials(losses: int, trials: int, risk: float, confidence: float) -> int:
    """How many more trials without any loss would show it; 0 where these do."""
    enough = 1
    while not shows(losses, trials + enough, risk, confidence):
        enough *= 2
    few = -1
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if shows(losses, trials + middle, risk, confidence) else (middle, enough)
    return enough
