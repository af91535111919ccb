"""Critical-KV hit rate: how many of the oracle's top rows does a method keep? (arXiv 2509.10798, section 4)

The oracle's rows are the top rows of each KV head by the mean attention of the model's own greedy response, the same
number in every head and without pooling. Methods are measured with their own default pooling and allocation:
one that splits the budget is measured against the even oracle, so that it pays for every row it takes from a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from judgeq.config import Budget, Decoding, Selection, budget_rows, check_budget
from judgeq.data.example import Example
from judgeq.errors import InputError
from judgeq.inference.appended import most_appended
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.request import Request, reserved_positions
from judgeq.methods import Method, Oracle, method_named
from judgeq.methods.selection import overlap
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.workers import Workers
from judgeq.values import several, texts

REFERENCE = Oracle(selection=Selection(pool=1))


@dataclass(frozen=True)
class HitRate:
    """One row of the result.

    Attributes:
        method: name.
        budget: as asked for.
        by_prompt: for each prompt one hit rate a layer, averaged over its KV heads; without layers that have a sliding
            window, where nothing is evicted.
    """

    __repr__ = brief

    method: str
    budget: Budget
    by_prompt: tuple[tuple[float, ...], ...]

    @property
    def rates(self) -> tuple[float, ...]:
        """One hit rate a prompt, averaged over its layers."""
        return tuple(_mean(layers) for layers in self.by_prompt)

    @property
    def mean(self) -> float:
        """Average over the prompts."""
        return _mean(self.rates)

    @property
    def per_layer(self) -> tuple[float, ...]:
        """One hit rate a layer, averaged over the prompts."""
        return tuple(_mean(rates) for rates in zip(*self.by_prompt, strict=True))

    def to_row(self, corpus: str) -> dict[str, Any]:
        """One row of a results file."""
        return {
            "method": self.method,
            "budget": self.budget,
            "task": f"hit-rate/{corpus}",
            "benchmark": f"hit-rate/{corpus}",
            "metric": "hit_rate",
            "score": round(self.mean, 4),
            "n": len(self.by_prompt),
            "per_layer": [round(rate, 3) for rate in self.per_layer],
        }


def hit_rates(
    lm: LanguageModel,
    examples: Sequence[Example],
    methods: Method | Iterable[Method],
    budgets: Budget | Iterable[Budget],
    *,
    tokens: SoftTokens | None,
    names: str | Iterable[str] | None = None,
    response_tokens: int = 48,
    workers: Workers | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[HitRate]:
    """Measure every method at every budget on the same prompts; one prefill and one response a prompt.

    Args:
        examples: prompts; one with fewer tokens than a budget has rows does not count for that budget.
        methods: one or several, all but the oracle, which is the reference.
        budgets: rows or shares, one or several.
        tokens: soft tokens and their profile, where a method needs them.
        names: what to call the methods in the result; their registered names by default.
        workers: the processes that share the prompts, which all call this and all get the result.

    Raises:
        InputError: every budget exceeds every prompt.
        ModelError: the model evicts nothing.
    """
    lm.check_evicts()
    methods = [method_named(method) for method in several(methods)]
    budgets = [check_budget(budget) for budget in several(budgets)]
    labels = [method.name for method in methods] if names is None else texts("names", names)
    if len(labels) != len(methods):
        raise InputError(f"There are {len(methods)} methods and {len(labels)} names: give one for each")
    found: list[tuple[int, int, int, tuple[float, ...]]] = []
    own = [number for number in range(len(examples)) if workers is None or workers.has(number)]
    reserve = reserved_positions(
        methods, most_appended(lm, methods, tokens.positions if tokens else 0), response_tokens
    )
    profile = tokens.profile if tokens else None
    for done, number in enumerate(own):
        ids = examples[number].input_ids(lm, reserve=reserve)
        length = ids.shape[1]
        rows = {at: budget_rows(budget, length) for at, budget in enumerate(budgets) if budget <= length}
        asked = [(method, budget) for method in range(len(methods)) for budget in rows]
        plans = [
            *(Plan(REFERENCE, budget) for budget in rows.values()),
            *(Plan(methods[method], rows[budget], profile) for method, budget in asked),
        ]
        decoding, soft = Decoding(max_new_tokens=response_tokens), tokens.weights if tokens else None
        outcome = prefill_with_lookahead(Request(lm, ids, plans, decoding, soft))
        best = dict(zip(rows, outcome.retained, strict=False))
        for (method, budget), kept in zip(asked, outcome.retained[len(rows) :], strict=True):
            found.append((number, method, budget, _by_layer(kept, best[budget])))
        progress(done + 1, len(own))
    collected: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    for _, method, budget, by_layer in sorted(found if workers is None else workers.gather(found)):
        collected.setdefault((method, budget), []).append(by_layer)
    if not collected:
        raise InputError("Every budget exceeds every prompt: give smaller budgets, or longer documents")
    return [
        HitRate(labels[method], budgets[budget], tuple(by_prompt))
        for (method, budget), by_prompt in sorted(collected.items())
    ]


def _by_layer(ours: Retained, best: Retained) -> tuple[float, ...]:
    """Overlap of each layer that the oracle evicts from; 1 where a method keeps every row."""
    return tuple(
        1.0 if kept is None else float(overlap(kept, top))
        for kept, top in zip(ours.kept, best.kept, strict=True)
        if top is not None
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
