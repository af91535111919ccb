"""Requests of any kind: the first pass, the responses that methods score with, and the second pass over these.

A response is the full cache's answer for oracles, a draft for lookahead methods. Knows nothing of text.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from judgeq.cache.prefix import LayerCallback, PrefixCache
from judgeq.inference.appended import shared_passes
from judgeq.inference.decode_batch import PendingAnswer, decode_together
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import Prefill, prefill, second_pass
from judgeq.inference.prefill_batch import group_by_length, prefill_padded
from judgeq.inference.request import Request
from judgeq.methods import Full
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import rope_depends_on_length


def prefill_with_lookahead(
    request: Request, *, prefix: PrefixCache | None = None, on_layer: LayerCallback | None = None
) -> Prefill:
    """One pass for all plans, and a second pass over a response for those that score with one.

    Plans with the same writer, budget of the writer and length of response share one response and one pass over it.

    Args:
        prefix: rows of tokens that were read before, see `prefill`.
        on_layer: progress of the passes, and a place to cancel.

    Returns:
        The first pass, its `retained` in the order of the plans.
    """
    (found,) = prefill_many([request], prefix=prefix, on_layer=on_layer)
    return found


def prefill_many(
    requests: Sequence[Request],
    *,
    prefix: PrefixCache | None = None,
    padded: bool = False,
    on_layer: LayerCallback | None = None,
) -> list[Prefill]:
    """`prefill_with_lookahead` for several requests to one model with the same soft tokens.

    All responses are written side by side. Until then the complete rows of every prompt that needs one are stored.

    Args:
        prefix: rows of tokens that were read before, see `prefill`.
        padded: read prompts of similar length in one pass, but those in chunks; else one by one.
        on_layer: progress of the passes, and a place to cancel. While responses are written it is called for every
            token, with all layers done.
    """
    lookaheads = [_Lookahead(request) for request in requests]
    plans = [plan for each in lookaheads for plan in each.first_plans]
    if padded := padded and prefix is None and bool(requests):
        # all plans that score with soft tokens must score with the same
        padded = len(shared_passes(requests[0].lm, plans, requests[0].soft_tokens)) == 1
    for group in _passes(requests, padded):
        _first_pass([lookaheads[at] for at in group], prefix, on_layer)

    def on_token() -> None:
        if on_layer is not None:
            layers = requests[0].lm.geometry.layers
            on_layer(layers, layers)

    for whole in (False, True):  # first the drafts, then whole answers
        wanted = [(each, key) for each in lookaheads for key in each.scored if (key[1] is None) is whole]
        if not wanted:
            continue
        started = time.perf_counter()
        written = decode_together(requests[0].lm, [each.pending(key) for each, key in wanted], on_token)
        seconds = time.perf_counter() - started
        for (each, key), answer in zip(wanted, written, strict=True):
            each.responses[key] = _without_end(requests[0].lm, answer.tokens), seconds
    return [each.second_passes(on_layer) for each in lookaheads]


Response = tuple[Plan, int | None]
"""A response: the plan whose rows it is written with, and its tokens; None is the whole answer."""


class _Lookahead:
    """A request on its way through the passes.

    Attributes:
        full: the plan of the full cache.
        scored: indices of the plans that need a response, by that response.
        direct: indices of all other plans.
        memory: most memory rows that any plan keeps.
        first_plans: what the first pass must keep: for the direct plans, for writers, and for the second pass.
        first: the outcome of the first pass, once it is over.
        responses: (1, R) int64 and the seconds that writing took, once they are written.
    """

    first: Prefill

    def __init__(self, request: Request) -> None:
        self.request = request
        self.full = Plan(Full(), request.input_ids.shape[1])
        self.scored: dict[Response, list[int]] = {}
        self.direct: list[int] = []
        self.memory = max((plan.memory_rows(request.input_ids.shape[1]) for plan in request.plans), default=0)
        self.responses: dict[Response, tuple[Tensor, float]] = {}
        for at, plan in enumerate(request.plans):
            if plan.method.needs_response:
                key = self._writer(plan), plan.method.response_tokens
                self.scored.setdefault(key, []).append(at)
            else:
                self.direct.append(at)
        self.first_plans = [request.plans[at] for at in self.direct]
        if self.scored:
            needed = dict.fromkeys([self.full, *(writer for writer, _ in self.scored)])
            self.first_plans += [plan for plan in needed if plan not in self.first_plans]

    def _writer(self, plan: Plan) -> Plan:
        writer = plan.method.writer
        return self.full if writer is None else replace(plan, method=writer)

    def _rows(self, plan: Plan) -> Retained:
        return next(kept for kept in self.first.retained if kept.plan == plan)

    def pending(self, key: Response) -> PendingAnswer:
        """A response as `decode_together` takes it."""
        writer, length = key
        decoding = replace(self.request.decoding, temperature=0)
        if length is not None:
            decoding = replace(decoding, max_new_tokens=length)
        return PendingAnswer(self._rows(writer).cache, self.first.logits, decoding)

    def second_passes(self, on_layer: LayerCallback | None) -> Prefill:
        """The first pass, with what the second passes over the responses have kept."""
        retained = dict(zip(self.direct, self.first.retained, strict=False))
        for key, places in self.scored.items():
            response, seconds = self.responses[key]
            found = second_pass(
                self.request.lm,
                self.request.input_ids,
                self._rows(self.full).cache.frozen(),
                response,
                [self.request.plans[at] for at in places],
                soft_tokens=self.request.soft_tokens,
                memory=self.first.memory,
                on_layer=on_layer,
            )
            for at, kept in zip(places, found.retained, strict=True):
                kept.extra_s = seconds + found.prefill_s
                retained[at] = kept
        answer = self.responses.get((self.full, None))
        return replace(
            self.first,
            request=self.request,
            retained=[retained[at] for at in range(len(self.request.plans))],
            response=None if answer is None else answer[0],
        )


def _passes(requests: Sequence[Request], padded: bool) -> Iterator[list[int]]:
    """Indices of the requests that share a first pass."""
    free = [at for at, request in enumerate(requests) if padded and request.chunk is None]
    lengths = [requests[at].input_ids.shape[1] for at in free]
    yield from ([at] for at in range(len(requests)) if at not in free)
    for places in group_by_length(lengths):
        group, shortest, longest = [free[at] for at in places], lengths[places[0]], lengths[places[-1]]
        if rope_depends_on_length(requests[0].lm.model, shortest, longest - shortest):
            yield from ([at] for at in group)
        else:
            yield group


def _first_pass(group: Sequence[_Lookahead], prefix: PrefixCache | None, on_layer: LayerCallback | None) -> None:
    request, plans = group[0].request, [each.first_plans for each in group]
    soft, memory = request.soft_tokens, max(each.memory for each in group)
    if len(group) == 1:
        group[0].first = prefill(
            request.lm,
            request.input_ids,
            plans[0],
            soft_tokens=soft,
            prefix=prefix,
            chunk=request.chunk,
            memory=memory,
            attended=request.attended,
            on_layer=on_layer,
        )
        return
    ids = [each.request.input_ids for each in group]
    found = prefill_padded(request.lm, ids, plans, soft_tokens=soft, memory=memory, on_layer=on_layer)
    for each, outcome in zip(group, found, strict=True):
        each.first = outcome


def _without_end(lm: LanguageModel, tokens: Sequence[int]) -> Tensor:
    """(1, R) int64 without the end token, over which no oracle averages; a response of nothing else keeps it."""
    return torch.tensor([[token for token in tokens if token not in lm.eos_ids] or tokens])
