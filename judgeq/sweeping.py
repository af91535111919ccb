"""How small the cache can get for one question: budgets from small to whole, from one reading of the prompt.

Every budget is compared with the full cache's own answer, which is written once. Knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from judgeq.cache.prefix import LayerCallback, PrefixCache, Progress
from judgeq.cache.retained import RetainedCache
from judgeq.config import AUTO, Budget, Decoding, budget_rows, check_budget
from judgeq.errors import InputError
from judgeq.inference.decode import decode
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.maps import retention_map
from judgeq.inference.plan import Plan
from judgeq.inference.request import Request, make_plans, make_request, resolve_methods, resolve_soft_tokens
from judgeq.inference.spans import Span, rows_of
from judgeq.methods import Full, Method
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import several

BUDGETS: tuple[Budget, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True)
class SweepPoint:
    """How well one method at one budget answers a question.

    Attributes:
        method: its name.
        budget: as requested.
        rows: the budget in rows per KV head; their mean where heads have budgets of their own.
        share: `rows` as a share of the prompt's tokens, in (0, 1].
        agreement: share of the answer's tokens, its end included, that these rows would also write, each one after
            those before it; in [0, 1]. The first token is not counted, since it is chosen before anything is evicted:
            1.0 where there is no other.
        survival: mean share of the span's tokens that is kept, over layers and KV heads; None without a span.
        answer: the full cache's greedy answer, along which agreement is measured.
        prompt_tokens: length of the prompt, template included.
    """

    __repr__ = brief

    method: str
    budget: Budget
    rows: int
    share: float
    agreement: float
    survival: float | None
    answer: str
    prompt_tokens: int


def sweep(
    lm: LanguageModel,
    document: str,
    question: str,
    *,
    methods: str | Method | Iterable[str | Method] = (AUTO, "snapkv"),
    budgets: Budget | Iterable[Budget] = BUDGETS,
    span: Span | None = None,
    tokens: SoftTokens | str | Path | None = None,
    question_first: bool = False,
    answer_prefix: str = "",
    truncate: bool | None = False,
    max_new_tokens: int = 32,
    on_layer: LayerCallback | None = None,
) -> Iterator[SweepPoint]:
    """Measure methods over budgets, one point after the other: every method at the first budget, then at the next.

    The prompt is read once and its complete rows are stored. Each budget reads the last tokens again, as many as its
    methods score with (SnapKV 32), with the soft tokens, evicts from the complete rows, and reads the answer in one
    pass after the kept rows. Besides the complete rows, only those of one budget are stored at a time. Methods that
    score with an answer write theirs at every budget.

    Args:
        methods: one name or instance, or several.
        budgets: rows per KV head (int) or shares of the prompt (float), one or several, in any order.
        span: characters `(first, last)` of the document whose survival is measured.
        tokens, question_first, answer_prefix, truncate: as in `judgeq.read`.
        max_new_tokens: longest answer in tokens.
        on_layer: progress of the reading, and a place to cancel; called on, with all layers done, for every layer of
            the later passes and every token of the answer.

    Raises:
        InputError: bad input, raised when the first point is requested.
    """
    wanted = [check_budget(budget) for budget in several(budgets)]
    chosen = resolve_methods(lm, methods, None, tokens)
    if not chosen or not wanted:
        raise InputError("A sweep needs at least one method and one budget: name some")
    soft = resolve_soft_tokens(lm, chosen, tokens)
    request = make_request(
        lm,
        document,
        question,
        methods=chosen,
        tokens=soft,
        question_first=question_first,
        answer_prefix=answer_prefix,
        truncate=truncate,
        decoding=Decoding(max_new_tokens=max_new_tokens),
    )
    prompt = request.prompt
    assert prompt is not None
    watched = None if span is None else rows_of(prompt, document, [span])

    def later(*_: int) -> None:
        """After every later pass, with all layers done, so that the callback can cancel."""
        if on_layer is not None:
            on_layer(lm.geometry.layers, lm.geometry.layers)

    prefix = _read_prefix(request, on_layer)
    full_request = replace(request, plans=[Plan(Full(), prompt.tokens)])
    full = prefill_with_lookahead(full_request, prefix=prefix, on_layer=later)
    reference = _Reference.write(lm, full.retained[0].cache, full.logits, request.decoding, later)
    del full
    for budget in wanted:
        rows = budget_rows(budget, prompt.tokens)
        at_budget = replace(request, plans=make_plans(chosen, rows, prompt.tokens, soft))
        retained = prefill_with_lookahead(at_budget, prefix=prefix, on_layer=later).retained
        retained.reverse()
        while retained:
            kept = retained.pop()
            survival = None
            if watched is not None:
                shares = retention_map(lm, prompt, kept).share_kept()
                survival = float(shares[watched].mean())
            yield SweepPoint(
                method=kept.plan.method.name,
                budget=budget,
                rows=kept.plan.budget,
                share=kept.plan.budget / prompt.tokens,
                agreement=reference.agreement(kept.cache),
                survival=survival,
                answer=reference.text,
                prompt_tokens=prompt.tokens,
            )


def _read_prefix(request: Request, on_layer: LayerCallback | None) -> PrefixCache | None:
    """The prompt's rows without those of the last tokens, which every budget reads; None where those are all."""
    lm = request.lm
    scoring = [plan.method.writer if plan.method.needs_response else plan.method for plan in request.plans]
    needed = [method.queries_needed for method in scoring if method is not None]
    tokens = request.input_ids.shape[1]
    first = tokens - max([1, *filter(None, needed)])
    if first < 1:
        return None
    rows = PrefixCache(lm.model.config, expected=tokens + request.appended_tokens)
    progress = Progress(on_layer, lm.geometry.layers)
    rows.read(lm, [request.input_ids[:, :first]], progress, attention_sums=None in needed)
    return rows


@dataclass(frozen=True, eq=False)
class _Reference:
    """The full cache's answer.

    Attributes:
        text: what a person reads.
        read: (1, R) int64, its tokens but the last: what a pass over the answer reads.
        expected: (R,) int64, the token that the full cache writes after each of them.
    """

    lm: LanguageModel
    text: str
    read: Tensor
    expected: Tensor

    @classmethod
    def write(
        cls,
        lm: LanguageModel,
        cache: RetainedCache,
        logits: Tensor,
        decoding: Decoding,
        later: Callable[[], None],
    ) -> _Reference:
        """Write the answer from complete rows, and read it once more, as it is read from all others.

        So rounding, which differs between a pass over one token and a pass over many, makes no difference.
        """
        fork, steps = cache.fork(), []
        for step in decode(lm, fork, logits, decoding):
            steps.append(step)
            later()
        read = torch.tensor([[step.token for step in steps[:-1]]], dtype=torch.int64, device=lm.device)
        text = "".join(step.text for step in steps).strip()
        return cls(lm, text, read, _written(lm, cache, read))

    def agreement(self, cache: RetainedCache) -> float:
        """Share of the expected tokens that these rows would write too; extends the cache."""
        if not len(self.expected):
            return 1.0
        return float((_written(self.lm, cache, self.read) == self.expected).float().mean())


@torch.inference_mode()
def _written(lm: LanguageModel, cache: RetainedCache, read: Tensor) -> Tensor:
    """(R,) int64: the likeliest token after each of (1, R), which are read in one pass."""
    if not read.shape[1]:
        return read[0]
    return lm.model(input_ids=read, cache=cache, use_cache=True).logits[0].argmax(-1)
