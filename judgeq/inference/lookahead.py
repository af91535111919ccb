"""Responses that a method looks at, and the second look: the full cache's answer for oracles, a draft for lookahead.

One place for all of them, whether they answer or are measured against. Knows nothing of text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from judgeq.cache.prefix import LayerCallback, PrefixCache
from judgeq.cache.retained import RetainedCache
from judgeq.config import Decoding
from judgeq.inference.decode_batch import PendingAnswer, decode_together
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill, prefill, probe
from judgeq.inference.prefill_batch import groups_alike, prefill_padded
from judgeq.methods import Full, Method
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import rope_depends_on_length
from judgeq.objects import brief
from judgeq.soft_tokens.tensors import SoftTokenTensors


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
    soft_tokens: SoftTokenTensors | None = None,
    longest: Decoding = Decoding(),
    rows: PrefixCache | None = None,
    chunk: int | None = None,
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """One pass for all plans, and a second look at a response for those that need one.

    Plans with the same writer, budget of the writer and length of response share one response and one look at it.

    Args:
        input_ids: (1, T) int64.
        plans: methods and budgets of any kind.
        soft_tokens: needed as soon as a method asks with them.
        longest: length and stop texts of a whole answer that is looked at; it is always greedy.
        rows, chunk: what was read before, and how the rest is read; see `prefill`.
        on_layer: progress of the passes, and a place to cancel.

    Returns:
        The first pass, its `retained` in the order of `plans`.
    """
    asked = [ToRead(input_ids, plans, longest, rows, chunk)]
    (found,) = prefill_many(lm, asked, soft_tokens=soft_tokens, on_layer=on_layer)
    return found


@dataclass(frozen=True, eq=False)
class ToRead:
    """A prompt for `prefill_many`; see the arguments of `retain`."""

    __repr__ = brief

    input_ids: Tensor
    plans: Sequence[Plan]
    longest: Decoding = Decoding()
    rows: PrefixCache | None = None
    chunk: int | None = None


def prefill_many(
    lm: LanguageModel,
    prompts: Sequence[ToRead],
    *,
    soft_tokens: SoftTokenTensors | None = None,
    padded: bool = False,
    on_layer: LayerCallback | None = None,
) -> list[Prefill]:
    """`retain` for several prompts; all their responses are written side by side.

    Every prompt's complete rows are held until then, where a plan of it needs a response. Prompts are read one by one,
    or in passes of similar ones where `padded` says so; those with rows or in chunks always one by one. While responses
    are written `on_layer` hears, token by token, that all layers are done.
    """
    readings = [_Reading(lm, prompt, soft_tokens, on_layer) for prompt in prompts]
    for group in _groups(lm, prompts, padded):
        _read_first(lm, [readings[at] for at in group], soft_tokens, on_layer)
    drafts = [(reading, key) for reading in readings for key in reading.groups if key[1] is not None]
    answers = [(reading, key) for reading in readings for key in reading.groups if key[1] is None]

    def still_here() -> None:
        if on_layer is not None:
            on_layer(lm.geometry.layers, lm.geometry.layers)

    for wanted in (drafts, answers):
        started = time.perf_counter()
        written = decode_together(lm, [reading.unwritten(key) for reading, key in wanted], still_here)
        seconds = time.perf_counter() - started
        for (reading, key), each in zip(wanted, written, strict=True):
            reading.responses[key] = _without_end(lm, each.tokens), seconds
    return [reading.look_again() for reading in readings]


def _groups(lm: LanguageModel, prompts: Sequence[ToRead], padded: bool) -> Iterator[list[int]]:
    """Places of the prompts of each first pass."""
    lengths = [prompt.input_ids.shape[1] for prompt in prompts]
    free = [
        at for at, prompt in enumerate(prompts) if padded and prompt.rows is None and prompt.chunk is None
    ]
    yield from ([at] for at in range(len(prompts)) if at not in free)
    for places in groups_alike([lengths[at] for at in free]):
        group = [free[place] for place in places]
        shortest, longest = lengths[group[0]], lengths[group[-1]]
        if rope_depends_on_length(lm.model, shortest, longest - shortest):
            yield from ([at] for at in group)
        else:
            yield group


def _read_first(
    lm: LanguageModel,
    readings: Sequence[_Reading],
    soft_tokens: SoftTokenTensors | None,
    on_layer: LayerCallback | None,
) -> None:
    """The first pass of one prompt, or of several."""
    if len(readings) == 1:
        prompt = readings[0].prompt
        found = [
            prefill(
                lm,
                prompt.input_ids,
                readings[0].first,
                soft_tokens=soft_tokens,
                rows=prompt.rows,
                chunk=prompt.chunk,
                on_layer=on_layer,
            )
        ]
    else:
        ids, plans = [each.prompt.input_ids for each in readings], [each.first for each in readings]
        found = prefill_padded(lm, ids, plans, soft_tokens=soft_tokens, on_layer=on_layer)
    for reading, outcome in zip(readings, found, strict=True):
        reading.outcome = outcome


Wanted = tuple[Plan, int | None]
"""A response: what it is written with, and its tokens; None is the whole answer."""


class _Reading:
    """A prompt that is read.

    Attributes:
        first: plans of the first pass.
        outcome: of the first pass, once it is done.
        groups: places of the plans that need a response, by that response.
        responses: (1, R) int64 and the seconds that writing took, once they are written.
    """

    def __init__(
        self,
        lm: LanguageModel,
        prompt: ToRead,
        soft_tokens: SoftTokenTensors | None,
        on_layer: LayerCallback | None,
    ) -> None:
        self.lm, self.prompt, self.soft_tokens, self.on_layer = lm, prompt, soft_tokens, on_layer
        self.full = Plan(Full(), prompt.input_ids.shape[1])
        self.groups: dict[Wanted, list[int]] = {}
        self.responses: dict[Wanted, tuple[Tensor, float]] = {}
        for at, plan in enumerate(prompt.plans):
            if plan.method.needs_response:
                self.groups.setdefault((_writer(plan) or self.full, plan.method.response_tokens), []).append(
                    at
                )
        self.early = [at for at, plan in enumerate(prompt.plans) if not plan.method.needs_response]
        self.first = [prompt.plans[at] for at in self.early]
        if self.groups:
            needed = dict.fromkeys([self.full, *(writer for writer, _ in self.groups)])
            self.first += [plan for plan in needed if plan not in self.first]
        self.outcome: Prefill

    @property
    def caches(self) -> dict[Plan, RetainedCache]:
        """What each plan of the first pass has kept."""
        return {kept.plan: kept.cache for kept in self.outcome.retained}

    def unwritten(self, wanted: Wanted) -> PendingAnswer:
        """A response as `decode_together` takes it."""
        writer, length = wanted
        decoding = replace(self.prompt.longest, temperature=0)
        if length is not None:
            decoding = replace(decoding, max_new_tokens=length)
        return PendingAnswer(self.caches[writer], self.outcome.logits, decoding)

    def look_again(self) -> Prefill:
        """The first pass, with what the second looks at the responses have kept."""
        retained = dict(zip(self.early, self.outcome.retained, strict=False))
        for wanted, places in self.groups.items():
            response, seconds = self.responses[wanted]
            found = probe(
                self.lm,
                self.caches[self.full].frozen(),
                response,
                [self.prompt.plans[at] for at in places],
                soft_tokens=self.soft_tokens,
                on_layer=self.on_layer,
            )
            for at, kept in zip(places, found.retained, strict=True):
                kept.extra_s = seconds + found.seconds
                retained[at] = kept
        whole = self.responses.get((self.full, None))
        return replace(
            self.outcome,
            retained=[retained[at] for at in range(len(self.prompt.plans))],
            response=None if whole is None else whole[0],
        )


def _writer(plan: Plan) -> Plan | None:
    """What the response of a plan is written with; None is the full cache."""
    writer = plan.method.writer
    return None if writer is None else Plan(writer, plan.budget, plan.profile, plan.forced)


def _without_end(lm: LanguageModel, tokens: Sequence[int]) -> Tensor:
    """(1, R) int64. No oracle averages over the end token; a response that is nothing else keeps it."""
    return torch.tensor([[token for token in tokens if token not in lm.eos_ids] or tokens])
