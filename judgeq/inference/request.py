"""Everything that is asked about one prompt, resolved and checked once, before anything is read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from judgeq.config import AUTO, DEFAULT_BUDGET, Budget, Decoding, budget_rows, check_budget, check_chunk
from judgeq.errors import InputError
from judgeq.inference.appended import most_appended
from judgeq.inference.attending import CountedHeads, WhatAttends
from judgeq.inference.plan import Plan
from judgeq.inference.spans import Span, forced_rows
from judgeq.methods import Full, JudgeQ, Method, StockAnswer, method_named
from judgeq.methods.parsing import method_from_text
from judgeq.methods.selection import Forced
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import check_appended
from judgeq.objects import brief
from judgeq.prompts.prompt import FEWER_APPENDED, SHORTER_ANSWER, Prompt, build_prompt, exceeds
from judgeq.soft_tokens.soft_tokens import SoftTokens, find_shipped
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.values import several


@dataclass(frozen=True, eq=False)
class Request:
    """A prompt, the plans by which its rows are kept, and how answers are written.

    Attributes:
        lm: the model.
        input_ids: (1, T) int64, the prompt's tokens.
        plans: methods and their budgets.
        decoding: of the answers. Its length and stop texts also hold for whole answers that a method scores with, which
            are always greedy.
        soft_tokens: the trained ones, needed as soon as a method scores with them.
        chunk: most tokens of a pass over the prompt; None = one pass.
        prompt: where the tokens come from; None where only these are known.
        decoding_budget: rows per KV head where rows are evicted during decoding; unlike a plan's it may exceed the
            prompt.
        notices: sentences a person should see.
        query_aware: the question is visible when rows are chosen.
        attended: whose attention is recorded while answers are written; None = nothing is.
        started: when this was asked, by `time.perf_counter`.
    """

    __repr__ = brief

    lm: LanguageModel
    input_ids: Tensor
    plans: Sequence[Plan]
    decoding: Decoding = Decoding()
    soft_tokens: SoftTokenTensors | None = None
    chunk: int | None = None
    prompt: Prompt | None = None
    decoding_budget: int = 0
    notices: tuple[str, ...] = ()
    query_aware: bool = True
    attended: CountedHeads | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def appended_tokens(self) -> int:
        """Most soft and memory tokens that a pass of its methods ends with."""
        trained = 0 if self.soft_tokens is None else self.soft_tokens.appended
        return most_appended(self.lm, [plan.method for plan in self.plans], trained)


def make_request(
    lm: LanguageModel,
    document: str,
    question: str,
    *,
    methods: str | Method | Iterable[str | Method] = ("full", AUTO, "snapkv"),
    budget: Budget = DEFAULT_BUDGET,
    tokens: SoftTokens | str | Path | None = None,
    pinned: Span | Iterable[Span] = (),
    dropped: Span | Iterable[Span] = (),
    row_bits: int | None = None,
    decoding: Decoding = Decoding(),
    chunk: int | None = None,
    attended: WhatAttends = False,
    **layout: Any,
) -> Request:
    """Resolve and check a question about a document. Options as in `judgeq.read`.

    Args:
        layout: `question_first`, `answer_prefix` and `truncate`.

    Raises:
        InputError: bad input, in one sentence.
    """
    started = time.perf_counter()
    budget, chunk = check_budget(budget), check_chunk(chunk)
    named = several(methods)
    chosen = resolve_methods(lm, named, row_bits, tokens)
    check_question_known(chosen)
    evicting = [method for method in chosen if evicts_while_decoding(method, decoding)]
    check_decode_eviction(evicting)
    soft = resolve_soft_tokens(lm, chosen, tokens)
    n_soft = most_appended(lm, chosen, soft.positions if soft else 0)
    longest = decoding.max_new_tokens + (n_soft if evicting else 0)  # soft tokens follow the answer too
    reserve = reserved_positions(chosen, n_soft, longest)
    lower = SHORTER_ANSWER if reserve == longest else FEWER_APPENDED
    prompt = build_prompt(lm, document, question, reserve=reserve, lower=lower, **layout)
    if any(method.appends for method in evicting):
        check_appended(lm.model, lm.name, prompt.tokens + decoding.max_new_tokens, n_soft)
    forced = forced_rows(prompt, document, pinned, dropped)
    rows = budget_rows(budget, prompt.tokens)
    asked_rows = budget if isinstance(budget, int) else rows
    plans = make_plans(chosen, rows, prompt.tokens, soft, forced)
    return Request(
        lm,
        prompt.input_ids,
        plans,
        decoding,
        soft.weights if soft else None,
        chunk,
        prompt,
        decoding_budget=asked_rows,
        notices=(
            *stand_in_notices(lm, named, chosen),
            *_notices(prompt, asked_rows, rows, forced),
            *_decoding_notices(chosen, decoding),
            *memory_notices(plans, prompt.tokens),
        ),
        attended=CountedHeads.asked(lm, attended),
        started=started,
    )


def make_token_request(
    lm: LanguageModel,
    input_ids: Tensor,
    method: Method,
    budget: Budget,
    soft: SoftTokens | None,
    forced: Forced = Forced(),
    decoding: Decoding = Decoding(),
    chunk: int | None = None,
) -> Request:
    """A request about a prompt of which only the tokens are known.

    Args:
        input_ids: (1, T) int64.
        method, soft: see `resolve_methods` and `resolve_soft_tokens`.

    Raises:
        InputError: a prompt longer than the model's positions, or more rows are pinned than the budget has.
    """
    tokens = input_ids.shape[1]
    n_soft = most_appended(lm, [method], soft.positions if soft else 0)
    reserve = reserved_positions([method], n_soft, decoding.max_new_tokens)
    if tokens + reserve > lm.geometry.max_positions:
        raise InputError(f"The prompt {exceeds(lm, tokens, reserve)}: shorten it, or {SHORTER_ANSWER}")
    plans = make_plans([method], budget_rows(budget, tokens), tokens, soft, forced)
    weights = soft.weights if soft else None
    return Request(
        lm,
        input_ids.cpu(),
        plans,
        decoding,
        weights,
        check_chunk(chunk),
        notices=memory_notices(plans, tokens),
    )


def resolve_methods(
    lm: LanguageModel,
    methods: str | Method | Iterable[str | Method],
    row_bits: int | None,
    tokens: SoftTokens | str | Path | None = None,
) -> list[Method]:
    """One method or several, as texts or instances, with rows stored in `row_bits` unless that is None.

    Args:
        tokens: soft tokens, or where to find them; with None, `AUTO` asks whether some are shipped.
    """
    named = [auto_method(lm, tokens) if method == AUTO else method for method in several(methods)]
    chosen = [method_from_text(each) if isinstance(each, str) else method_named(each) for each in named]
    if row_bits is None:
        return chosen
    return [replace(each, selection=replace(each.selection, bits=row_bits)) for each in chosen]


def auto_method(lm: LanguageModel, tokens: SoftTokens | str | Path | None = None) -> str:
    """The name that `AUTO` stands for: Judge Q, or the stock answer where no soft tokens are known for the model."""
    known = tokens is not None or find_shipped(lm) is not None
    return JudgeQ.name if known else StockAnswer.name


def stand_in_notice(lm: LanguageModel) -> str:
    """What a person should know where the stock answer stands in for Judge Q."""
    return (
        f"No soft tokens are known for {lm.name}: the stock answer, which needs none, chooses the rows in place of "
        f"Judge Q, whose soft tokens `python -m judgeq train --model {lm.name}` would make."
    )


def stand_in_notices(lm: LanguageModel, named: Sequence[str | Method], chosen: Sequence[Method]) -> tuple[str, ...]:
    """`stand_in_notice`, if the methods that were named have become the stock answer; else nothing."""
    pairs = zip(named, chosen, strict=True)
    stands_in = any(name == AUTO and isinstance(method, StockAnswer) for name, method in pairs)
    return (stand_in_notice(lm),) if stands_in else ()


def resolve_soft_tokens(
    lm: LanguageModel,
    methods: Sequence[Method],
    tokens: SoftTokens | str | Path | None,
    question: str = "known",
) -> SoftTokens | None:
    """The soft tokens that methods use, see `judgeq.read`; None where none of them does.

    Args:
        question: which of those that are shipped, see `SoftTokens.for_model`.

    Raises:
        InputError: there are none, they do not fit, or they have fewer memory tokens than a method asks for.
    """
    if not any(method.uses_soft_tokens for method in methods):
        return None
    if isinstance(tokens, SoftTokens):
        tokens.check(lm)
    else:
        tokens = SoftTokens.for_model(lm, tokens, question=question)
    tokens.weights.with_memory(max(method.selection.memory or 0 for method in methods))
    return tokens


def make_plans(
    methods: Sequence[Method], rows: int, tokens: int, soft: SoftTokens | None, forced: Forced = Forced()
) -> list[Plan]:
    """Plans for a prompt of `tokens` tokens; `full` keeps all of them, whatever is dropped."""
    return [
        Plan(method, tokens) if isinstance(method, Full) else Plan.with_tokens(method, rows, soft, forced)
        for method in methods
    ]


def reserved_positions(methods: Iterable[Method], soft_tokens: int, answer_tokens: int) -> int:
    """Positions that must be free after a prompt: for its answer, and for drafts with soft tokens after them.

    Args:
        methods: all that read the prompt.
        soft_tokens: their number, 0 for none.
        answer_tokens: most tokens of the answer.
    """
    drafted = max((method.response_tokens or 0 for method in methods), default=0)
    return max(answer_tokens, soft_tokens + drafted)


def evicts_while_decoding(method: Method, decoding: Decoding) -> bool:
    """Whether rows are evicted while the answer is written; the full cache never evicts."""
    return decoding.evict_every is not None and not isinstance(method, Full)


def check_question_known(methods: Iterable[Method]) -> None:
    """Refuse methods that choose rows of a document alone, with an `InputError`."""
    for method in methods:
        if method.replays:
            raise InputError(
                f"{method.title or method.name} chooses rows by a replay of the document, before any question is "
                f"known: use Document.compress(method={method.name!r}), or `judgeq ask --query-agnostic`, or choose a "
                "method that has the question in view, such as judgeq"
            )


def check_decode_eviction(methods: Iterable[Method]) -> None:
    """Refuse, with an `InputError`, methods that score with an answer written before, split budgets or round rows."""
    for method in methods:
        if method.needs_response:
            raise InputError(
                f"The method {method.name!r} scores with an answer that was written ahead and cannot evict again while "
                "one is written: choose another, such as judgeq or snapkv, or leave evict_every out"
            )
        if method.selection.allocation != "uniform":
            raise InputError(
                "Rows are evicted while an answer is written only where all heads keep equally many, and the "
                f"allocation of {method.name!r} is {method.selection.allocation!r}: choose one that is uniform, or "
                "leave evict_every out"
            )
        if method.selection.bits is not None:
            raise InputError(
                "Rows in few bits would be rounded once more at each eviction: give row_bits or evict_every, not both"
            )


def _decoding_notices(methods: Iterable[Method], decoding: Decoding) -> tuple[str, ...]:
    if decoding.evict_every is not None:
        return ()
    return tuple(
        f"{method.title or method.name} was made for eviction while an answer is written, and here rows of the prompt "
        "alone are evicted: give evict_every, or choose another method, such as snapkv."
        for method in methods
        if method.for_decoding
    )


def memory_notices(plans: Iterable[Plan], tokens: int) -> tuple[str, ...]:
    """What to know of plans that keep fewer memory rows of a prompt of `tokens` tokens than they are asked for."""
    kept = {(plan.budget, plan.memory_rows(tokens), plan.memory or 0) for plan in plans if plan.evicts(tokens)}
    return tuple(
        f"A budget of {budget:,} rows has room for {left} memory rows and not for {asked}: the others are the prompt's."
        for budget, left, asked in sorted(kept)
        if left < asked
    )


def _notices(prompt: Prompt, asked_rows: int, rows: int, forced: Forced) -> tuple[str, ...]:
    notices = []
    for own, what in ((forced.pinned, "pinned and stay"), (forced.dropped, "dropped and go")):
        if own:
            notices.append(
                f"{len(own):,} tokens are {what}, in every layer and KV head; only the full cache is left as it is."
            )
    if prompt.cut_tokens:
        notices.append(
            f"The document was too long: {prompt.cut_tokens:,} tokens were cut out of its middle, where […] stands."
        )
    if asked_rows > prompt.tokens and not forced.dropped:
        notices.append(
            f"The budget of {asked_rows:,} rows exceeds the prompt's {prompt.tokens:,} tokens: this is the full cache."
        )
    elif rows == prompt.tokens and not forced.dropped:
        notices.append("The budget covers the whole prompt: this is the full cache.")
    return tuple(notices)
