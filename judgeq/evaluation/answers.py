"""Are the answers right? Methods and budgets side by side: one prefill an example, one greedy answer each.

An answer prefix belongs to the prompt: what is rated is only what the model writes behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from judgeq.config import Budget, Decoding, budget_rows
from judgeq.data.example import Example
from judgeq.decode import decode
from judgeq.evaluation.metrics import score
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, Method
from judgeq.prefill import Plan
from judgeq.reference import retain
from judgeq.soft_tokens import SoftTokens

LONGEST = 24
"""Tokens of an answer, where nobody says."""
WHOLE = 1.0
"""The budget of the full cache, whatever was asked for."""


@dataclass(frozen=True)
class Question:
    """An example and how its answer is rated.

    Attributes:
        example: the prompt and its right answers.
        max_new_tokens: longest answer.
        metric: a name of `METRICS`.
    """

    example: Example
    max_new_tokens: int = LONGEST
    metric: str = "all"

    def input_ids(self, lm: LanguageModel, tokens: SoftTokens | None) -> Tensor:
        """The prompt, (1, T) int64, with positions left for the answer and the soft tokens.

        Raises:
            InputError: nothing to compare an answer with, an unknown metric, or a prompt that is too long.
        """
        score(self.metric, "", self.example.answers)  # refuses what cannot be rated
        return self.example.input_ids(lm, reserve=max(self.max_new_tokens, tokens.n if tokens else 0))


@dataclass(frozen=True)
class Rated:
    """One answer.

    Attributes:
        kind: of its example.
        metric: what rated it.
        text: what was written.
        score: from 0 to 1.
        as_full: the full cache writes the same.
    """

    kind: str
    metric: str
    text: str
    score: float
    as_full: bool


@dataclass(frozen=True)
class Answered:
    """All answers of one method at one budget, in the order of the examples.

    Attributes:
        method: name.
        budget: as asked for; `WHOLE` for the full cache.
        answers: one an example.
    """

    method: str
    budget: Budget
    answers: tuple[Rated, ...]

    def to_rows(self, task: str, seed: int = 0) -> list[dict[str, Any]]:
        """Rows of a results file: one a metric, then one for each kind of example where there are several.

        Args:
            task: name of the task; a kind `facts/first` becomes the task `<task>/first`.
            seed: of the bootstrap.
        """
        rows = []
        for metric in dict.fromkeys(answer.metric for answer in self.answers):
            chosen = [answer for answer in self.answers if answer.metric == metric]
            kinds = sorted({answer.kind for answer in chosen})
            rows.append(self._row(task, metric, chosen, seed))
            for kind in kinds if len(kinds) > 1 else ():
                of_kind = [answer for answer in chosen if answer.kind == kind]
                rows.append(self._row(f"{task}/{kind.rpartition('/')[2]}", metric, of_kind, seed))
        return rows

    def _row(self, task: str, metric: str, answers: Sequence[Rated], seed: int) -> dict[str, Any]:
        scores = [answer.score for answer in answers]
        return {
            "method": self.method,
            "budget": self.budget,
            "task": task,
            "metric": metric,
            "score": round(sum(scores) / len(scores), 4),
            "n": len(scores),
            "interval": [round(end, 4) for end in bootstrap_interval(scores, seed)],
            "as_full": round(sum(answer.as_full for answer in answers) / len(answers), 4),
        }


def bootstrap_interval(
    scores: Sequence[float], seed: int, *, level: float = 0.95, draws: int = 2000
) -> tuple[float, float]:
    """Where the mean would lie with other examples: percentiles of the means of samples with replacement."""
    chosen = np.random.default_rng(seed).integers(len(scores), size=(draws, len(scores)))
    means = np.asarray(scores, dtype=float)[chosen].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def answer_all(
    lm: LanguageModel,
    questions: Sequence[Question],
    methods: Sequence[Method],
    budgets: Sequence[Budget],
    *,
    tokens: SoftTokens | None,
    names: Sequence[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Answered]:
    """Let every method answer at every budget, and the full cache once; one prefill an example.

    Args:
        questions: examples with right answers.
        methods: `full` ignores the budgets.
        budgets: rows or shares; one that exceeds a prompt keeps all of it.
        tokens: soft tokens and their profile, where a method needs them.
        names: what to call the methods in the result; their registered names by default.

    Raises:
        InputError: an example without right answers, an unknown metric, or a prompt that is too long.
    """
    for question in questions:
        question.input_ids(lm, tokens)  # refused before any work
    names = names or [method.name for method in methods]
    asked = [
        (name, method, budget)
        for name, method in zip(names, methods, strict=True)
        for budget in ([WHOLE] if isinstance(method, Full) else budgets)
    ]
    collected: list[list[Rated]] = [[] for _ in asked]
    for done, question in enumerate(questions):
        example, metric = question.example, question.metric
        texts = _texts(lm, question, [(method, budget) for _, method, budget in asked], tokens)
        full = texts.pop()
        for answers, text in zip(collected, texts, strict=True):
            rated = score(metric, text, example.answers)
            answers.append(Rated(example.kind, metric, text, rated, text == full))
        progress(done + 1, len(questions))
    return [
        Answered(name, budget, tuple(answers))
        for (name, _, budget), answers in zip(asked, collected, strict=True)
    ]


def _texts(
    lm: LanguageModel, question: Question, asked: Sequence[tuple[Method, Budget]], tokens: SoftTokens | None
) -> list[str]:
    """The answers to one question from one prefill, and behind them the full cache's."""
    greedy = Decoding(max_new_tokens=question.max_new_tokens)
    ids = question.input_ids(lm, tokens)
    profile = tokens.profile if tokens else None
    evicting = [(method, budget) for method, budget in asked if not isinstance(method, Full)]
    plans = [
        Plan(method, budget_rows(budget, ids.shape[1]), profile)
        for method, budget in [*evicting, (Full(), WHOLE)]
    ]
    outcome = retain(lm, ids, plans, soft_tokens=tokens.probe if tokens else None, longest=greedy)
    *written, full = (
        "".join(step.text for step in decode(lm, kept.cache, outcome.logits, greedy))
        for kept in outcome.retained
    )
    evicted = iter(written)
    return [*(full if isinstance(method, Full) else next(evicted) for method, _ in asked), full]


def with_gaps(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with `gap_closed`: the share of the way from SnapKV to the full cache at the same task and budget.

    None where that way is not positive, and in the full cache's own rows; no such field unless both were measured.
    """
    found = {(row["method"], row["task"], row["metric"], row["budget"]): row["score"] for row in rows}
    if not {"full", "snapkv"} <= {row["method"] for row in rows}:
        return list(rows)

    def closed(row: dict[str, Any]) -> float | None:
        task = row["task"], row["metric"]
        low, high = found.get(("snapkv", *task, row["budget"])), found["full", *task, WHOLE]
        if row["method"] == "full" or low is None or high <= low:
            return None
        return round((row["score"] - low) / (high - low), 3)

    return [{**row, "gap_closed": closed(row)} for row in rows]
