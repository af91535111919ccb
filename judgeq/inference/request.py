"""What the arguments of the public functions name: methods, soft tokens, and what each method may keep of a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from judgeq.config import Budget, budget_rows
from judgeq.inference.plan import Plan
from judgeq.methods import Full, Method, method_named
from judgeq.methods.selection import Forced
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import several


def resolve_methods(methods: str | Method | Iterable[str | Method], row_bits: int | None) -> list[Method]:
    """The methods by these names, or by one, with rows in so many bits. Arguments as in `read`."""
    chosen = [method_named(method) for method in several(methods)]
    if row_bits is None:
        return chosen
    return [replace(each, selection=replace(each.selection, bits=row_bits)) for each in chosen]


def resolve_soft_tokens(
    lm: LanguageModel, methods: Sequence[Method], tokens: SoftTokens | str | Path | None
) -> SoftTokens | None:
    """The soft tokens that methods ask with; None where none of them does. Arguments as in `read`."""
    if not any(method.uses_soft_tokens for method in methods):
        return None
    if isinstance(tokens, SoftTokens):
        tokens.check(lm)
        return tokens
    return SoftTokens.for_model(lm, tokens)


def make_plans(
    methods: Sequence[Method],
    budget: Budget,
    tokens: int,
    soft: SoftTokens | None,
    forced: Forced = Forced(),
) -> list[Plan]:
    """What each method may keep of a prompt of so many tokens; the full cache is forced to nothing."""
    rows = budget_rows(budget, tokens)
    profile = soft.profile if soft else None
    return [
        Plan(method, tokens) if isinstance(method, Full) else Plan(method, rows, profile, forced)
        for method in methods
    ]
