"""Scores of answers to one's own questions, from 0 to 1: pure functions over text. Knows nothing of models or examples.

RULER and LongBench are rated by lm-eval, see `judgeq.evaluation.harness`.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from judgeq.errors import InputError
from judgeq.values import texts

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and double spaces (SQuAD, arXiv 1606.05250)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def share_found(text: str, answers: str | Iterable[str]) -> float:
    """Share of the answers that the text contains, in any case of letters (RULER, arXiv 2404.06654)."""
    right = texts("answers", answers)
    return sum(answer.lower() in text.lower() for answer in right) / len(right)


def any_found(text: str, answers: str | Iterable[str]) -> float:
    """1 if the text contains one of the answers, in any case of letters."""
    return float(any(answer.lower() in text.lower() for answer in texts("answers", answers)))


def exact_match(text: str, answers: str | Iterable[str]) -> float:
    """1 if the text is one of the answers, both normalised."""
    return float(normalised(text) in map(normalised, texts("answers", answers)))


def token_f1(text: str, answers: str | Iterable[str]) -> float:
    """Harmonic mean of precision and recall over normalised words; the best of the answers counts."""
    ours = normalised(text).split()
    return max(_f1(ours, normalised(answer).split()) for answer in texts("answers", answers))


def _f1(ours: Sequence[str], theirs: Sequence[str]) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (Counter(ours) & Counter(theirs)).total() / (len(ours) + len(theirs))


METRICS: dict[str, Callable[[str, str | Iterable[str]], float]] = {
    "all": share_found,
    "any": any_found,
    "exact": exact_match,
    "f1": token_f1,
}


def score(metric: str, text: str, answers: str | Iterable[str]) -> float:
    """Rate a text by a metric's name.

    Args:
        answers: the right answer, or several.

    Raises:
        InputError: no answers, or an unknown metric.
    """
    right = texts("answers", answers)
    if not right:
        raise InputError("There is nothing to compare the answer with: give at least one right answer")
    if metric not in METRICS:
        raise InputError(f"There is no metric {metric!r}: choose one of {', '.join(METRICS)}")
    return METRICS[metric](text, right)
