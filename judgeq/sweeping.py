"""How small the cache can get for one question: budgets from small to whole, from one reading of the prompt.

Every budget is measured along the full cache's own answer, which is written once. Knows nothing of how that is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from judgeq.cache.prefix import LayerCallback, PrefixCache, Progress
from judgeq.cache.retained import RetainedCache
from judgeq.config import Budget, Decoding, check_budget
from judgeq.errors import InputError
from judgeq.inference.decode import decode
from judgeq.inference.lookahead import positions_behind, retain
from judgeq.inference.maps import retention_map
from judgeq.inference.plan import Plan
from judgeq.inference.request import make_plans, resolve_methods, resolve_soft_tokens
from judgeq.inference.spans import Span, rows_of
from judgeq.methods import Full, Method
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.prompts.prompt import FEWER_BEHIND, SHORTER_ANSWER, Prompt, build_prompt
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.values import several

BUDGETS: tuple[Budget, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True)
class SweepPoint:
    """What one method at one budget is worth for a question.

    Attributes:
        method: its name.
        budget: as it was asked for.
        rows: rows per KV head that the budget came to; their mean where heads have budgets of their own.
        share: `rows` as a share of the prompt's tokens, in (0, 1].
        agreement: share of the answer's tokens, its end included, that these rows would also write, each one behind
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
    methods: str | Method | Iterable[str | Method] = ("judgeq", "snapkv"),
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

    The prompt is read once and its complete rows are held. Each budget reads the last tokens again, as many as its
    methods look at (SnapKV 32), with the soft tokens, evicts from the complete rows, and reads the answer in one pass
    over what is left. So beside the complete rows those of one budget are held at a time. Methods that look at an
    answer write theirs at every budget.

    Args:
        methods: one name or instance, or several.
        budgets: rows per KV head (int) or shares of the prompt (float), one or several, in any order.
        span: characters `(first, last)` of the document whose survival is measured.
        tokens, question_first, answer_prefix, truncate: as in `judgeq.read`.
        max_new_tokens: longest answer in tokens.
        on_layer: progress of the reading, and a place to cancel; called on, with all layers done, for every layer of
            the later passes and every token of the answer.

    Raises:
        InputError: bad input, in one sentence, when the first point is asked for.
    """
    wanted = [check_budget(budget) for budget in several(budgets)]
    chosen = resolve_methods(methods, None)
    if not chosen or not wanted:
        raise InputError("A sweep needs at least one method and one budget: name some")
    decoding = Decoding(max_new_tokens=max_new_tokens)
    soft = resolve_soft_tokens(lm, chosen, tokens)
    reserve = positions_behind(chosen, soft.n if soft else 0, decoding.max_new_tokens)
    prompt = build_prompt(
        lm,
        document,
        question,
        question_first=question_first,
        answer_prefix=answer_prefix,
        truncate=truncate,
        reserve=reserve,
        lower=SHORTER_ANSWER if reserve == decoding.max_new_tokens else FEWER_BEHIND,
    )
    watched = None if span is None else rows_of(prompt, document, [span])
    later = _Later(on_layer, lm.geometry.layers)
    held = _held(lm, prompt, chosen, soft, on_layer)
    full = retain(lm, prompt.input_ids, [Plan(Full(), prompt.tokens)], rows=held, on_layer=later)
    reference = _Reference.write(lm, full.retained[0].cache, full.logits, decoding, later)
    del full
    for budget in wanted:
        retained = retain(
            lm,
            prompt.input_ids,
            make_plans(chosen, budget, prompt.tokens, soft),
            soft_tokens=soft.probe if soft else None,
            longest=decoding,
            rows=held,
            on_layer=later,
        ).retained
        retained.reverse()
        while retained:
            kept = retained.pop()
            survival = None
            if watched is not None:
                shares = retention_map(lm, prompt, kept).share_kept()
                survival = float(shares[watched].mean())
            rows = kept.plan.budget
            yield SweepPoint(
                method=kept.plan.method.name,
                budget=budget,
                rows=rows,
                share=rows / prompt.tokens,
                agreement=reference.agreement(kept.cache),
                survival=survival,
                answer=reference.text,
                prompt_tokens=prompt.tokens,
            )


class _Later:
    """Tells a callback, again and again, that all layers are done, so that it can cancel."""

    def __init__(self, on_layer: LayerCallback | None, layers: int) -> None:
        self.on_layer, self.layers = on_layer, layers

    def __call__(self, done: int = 0, layers: int = 0) -> None:
        if self.on_layer is not None:
            self.on_layer(self.layers, self.layers)


def _held(
    lm: LanguageModel,
    prompt: Prompt,
    methods: Sequence[Method],
    soft: SoftTokens | None,
    on_layer: LayerCallback | None,
) -> PrefixCache | None:
    """The prompt's rows but those of the last tokens, which every budget reads; None where those are all."""
    asking = [method.writer if method.needs_response else method for method in methods]
    needed = [method.queries_needed for method in asking if method is not None]
    first = prompt.tokens - max([1, *filter(None, needed)])
    if first < 1:
        return None
    rows = PrefixCache(lm.model.config, expected=prompt.tokens + (soft.n if soft else 0))
    progress = Progress(on_layer, lm.geometry.layers)
    rows.read(lm, [prompt.input_ids[:, :first]], progress, summed=None in needed)
    return rows


@dataclass(frozen=True, eq=False)
class _Reference:
    """The full cache's answer.

    Attributes:
        text: what a person reads.
        read: (1, R) int64, its tokens but the last: what a pass over the answer reads.
        expected: (R,) int64, the token that the full cache writes behind each of them.
    """

    lm: LanguageModel
    text: str
    read: Tensor
    expected: Tensor

    @classmethod
    def write(
        cls, lm: LanguageModel, cache: RetainedCache, logits: Tensor, decoding: Decoding, later: _Later
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
    """(R,) int64: the likeliest token behind each of (1, R), which are read in one pass."""
    if not read.shape[1]:
        return read[0]
    return lm.model(input_ids=read, cache=cache, use_cache=True).logits[0].argmax(-1)
