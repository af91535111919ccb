"""Responses that a method looks at, and the second look: the full cache's answer for oracles, a draft for lookahead.

One place for all of them, whether they answer or are measured against. Knows nothing of text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from judgeq.batch import Unwritten, decode_together
from judgeq.cache import RetainedCache
from judgeq.config import Decoding
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, Method
from judgeq.prefill import LayerCallback, Plan, Prefill, prefill, probe
from judgeq.soft_tokens import Probe


def positions_behind(methods: Iterable[Method], soft_tokens: int, longest: int) -> int:
    """Positions that must be free behind a prompt: for its answer, and for drafts and soft tokens behind them.

    Args:
        methods: all that read the prompt.
        soft_tokens: their number, 0 for none.
        longest: tokens of the answer.
    """
    return max(longest, soft_tokens + max((method.response_tokens or 0 for method in methods), default=0))


def retain(
    lm: LanguageModel,
    input_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: Probe | None = None,
    longest: Decoding = Decoding(),
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """One pass for all plans, and a second look at a response for those that need one.

    Plans with the same writer, budget of the writer and length of response share one response and one look at it.

    Args:
        input_ids: (1, T) int64.
        plans: methods and budgets of any kind.
        soft_tokens: needed as soon as a method asks with them.
        longest: length and stop texts of a whole answer that is looked at; it is always greedy.
        on_layer: progress of the passes, and a place to cancel.

    Returns:
        The first pass, its `retained` in the order of `plans`.
    """
    full = Plan(Full(), input_ids.shape[1])
    groups: dict[tuple[Plan, int | None], list[int]] = {}
    for at, plan in enumerate(plans):
        if plan.method.needs_response:
            groups.setdefault((_writer(plan) or full, plan.method.response_tokens), []).append(at)
    early = [at for at, plan in enumerate(plans) if not plan.method.needs_response]
    first = [plans[at] for at in early]
    if groups:
        needed = dict.fromkeys([full, *(writer for writer, _ in groups)])
        first += [plan for plan in needed if plan not in first]
    outcome = prefill(lm, input_ids, first, soft_tokens=soft_tokens, on_layer=on_layer)
    caches = {plan: kept.cache for plan, kept in zip(first, outcome.retained, strict=True)}
    responses = _responses(lm, list(groups), caches, outcome.logits, longest)
    retained = dict(zip(early, outcome.retained, strict=False))
    for (writer, length), indices in groups.items():
        response, seconds = responses[writer, length]
        late = [plans[at] for at in indices]
        rows = caches[full].frozen()
        found = probe(lm, rows, response, late, soft_tokens=soft_tokens, on_layer=on_layer)
        for at, kept in zip(indices, found.retained, strict=True):
            kept.extra_s = seconds + found.seconds
            retained[at] = kept
    return replace(
        outcome,
        retained=[retained[at] for at in range(len(plans))],
        response=responses[full, None][0] if (full, None) in groups else None,
    )


def _responses(
    lm: LanguageModel,
    wanted: Sequence[tuple[Plan, int | None]],
    caches: Mapping[Plan, RetainedCache],
    logits: Tensor,
    longest: Decoding,
) -> dict[tuple[Plan, int | None], tuple[Tensor, float]]:
    """Responses by writer and length, and the seconds they took; all drafts are written side by side."""
    found: dict[tuple[Plan, int | None], tuple[Tensor, float]] = {}
    drafts = [(writer, length) for writer, length in wanted if length is not None]
    started = time.perf_counter()
    written = decode_together(
        lm,
        [
            Unwritten(caches[writer], logits, replace(longest, max_new_tokens=length, temperature=0))
            for writer, length in drafts
        ],
    )
    seconds = time.perf_counter() - started
    for draft, each in zip(drafts, written, strict=True):
        found[draft] = _without_end(lm, each.tokens), seconds
    for writer, length in wanted:
        if length is None:
            started = time.perf_counter()
            response = greedy_response(lm, caches[writer], logits, longest)
            found[writer, length] = response, time.perf_counter() - started
    return found


def _writer(plan: Plan) -> Plan | None:
    """What the response of a plan is written with; None is the full cache."""
    writer = plan.method.writer
    return None if writer is None else Plan(writer, plan.budget, plan.profile)


def greedy_response(lm: LanguageModel, rows: RetainedCache, logits: Tensor, longest: Decoding) -> Tensor:
    """What the model answers with these rows, which stay as they are: (1, R) int64.

    The end token is left out, since no oracle averages over it; an answer that is nothing else keeps it.
    """
    (written,) = decode_together(lm, [Unwritten(rows, logits, replace(longest, temperature=0))])
    return _without_end(lm, written.tokens)


def _without_end(lm: LanguageModel, tokens: Sequence[int]) -> Tensor:
    return torch.tensor([[token for token in tokens if token not in lm.eos_ids] or tokens])
