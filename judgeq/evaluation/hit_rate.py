"""Critical-KV hit rate: how many of the oracle's top rows does a method keep? (arXiv 2509.10798, section 4)

The oracle's rows are the top rows of each KV head by the mean attention of the model's own greedy response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from judgeq.config import Budget, Decoding, Selection, budget_rows
from judgeq.decode import decode
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, Method, Oracle
from judgeq.prefill import Plan, prefill, probe
from judgeq.prompts import build_prompt
from judgeq.soft_tokens import SoftTokens
from judgeq.training.examples import Example


@dataclass(frozen=True)
class HitRate:
    """One row of the result.

    Attributes:
        method: name.
        budget: as asked for.
        rates: one hit rate a prompt, averaged over its layers and KV heads.
    """

    method: str
    budget: Budget
    rates: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Average over the prompts."""
        return sum(self.rates) / len(self.rates)

    def to_row(self, corpus: str) -> dict[str, Any]:
        """One row of a results file."""
        return {
            "method": self.method,
            "budget": self.budget,
            "task": f"hit-rate/{corpus}",
            "metric": "hit_rate",
            "score": round(self.mean, 4),
            "n": len(self.rates),
        }


def overlap(kept: Tensor, best: Tensor) -> Tensor:
    """Share of `best` that is in `kept`, averaged over heads and batch.

    Args:
        kept: (B, H_kv, k) row indices.
        best: (B, H_kv, k') row indices, distinct.
    """
    return (best.unsqueeze(-1) == kept.unsqueeze(-2)).any(-1).float().mean()


def hit_rates(
    lm: LanguageModel,
    examples: Sequence[Example],
    methods: Sequence[Method],
    budgets: Sequence[Budget],
    *,
    tokens: SoftTokens | None,
    response_tokens: int = 48,
    pool: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[HitRate]:
    """Measure every method at every budget on the same prompts; one prefill and one response a prompt.

    Args:
        examples: documents and questions.
        methods: all but the oracle, which is the reference.
        budgets: rows or shares.
        tokens: soft tokens, where a method needs them.
        pool: width of the methods' max-pooling; None leaves each as it is, 1 switches it off.
    """
    if pool is not None:
        methods = [replace(method, selection=replace(method.selection, pool=pool)) for method in methods]
    collected: dict[tuple[int, int], list[float]] = {}
    for done, example in enumerate(examples):
        prompt = build_prompt(
            lm,
            example.document,
            example.question,
            question_first=example.question_first,
            reserve=response_tokens + 64,
        )
        rows = [budget_rows(budget, prompt.tokens) for budget in budgets]
        plans = [Plan(method, budget) for method in methods for budget in rows]
        soft = tokens.probe if tokens else None
        reading = prefill(lm, prompt.input_ids, [Plan(Full(), prompt.tokens), *plans], soft_tokens=soft)
        full, *retained = reading.retained
        greedy = Decoding(max_new_tokens=response_tokens)
        response = [step.token for step in decode(lm, full.cache.fork(), reading.logits, greedy)]
        response = [token for token in response if token not in lm.eos_ids] or response
        exact = Oracle(selection=Selection(pool=1))
        best = probe(
            lm, full.cache.frozen(), torch.tensor([response]), [Plan(exact, budget) for budget in rows]
        ).retained
        for at, kept in enumerate(retained):
            method, budget = divmod(at, len(rows))
            pairs = zip(kept.kept, best[budget].kept, strict=True)
            rate = torch.stack([overlap(ours, theirs) for ours, theirs in pairs]).mean()  # type: ignore[arg-type]
            collected.setdefault((method, budget), []).append(float(rate))
        progress(done + 1, len(examples))
    return [
        HitRate(methods[method].name, budgets[budget], tuple(rates))
        for (method, budget), rates in sorted(collected.items())
    ]
