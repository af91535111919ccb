"""One pass over the prompt that serves any number of methods and budgets.

Layer by layer: attention first, then every plan scores, selects and copies *its own* rows, and the layer's complete
rows are freed. So layer `l` has shrunk before layer `l + 1` runs, and hidden states are what they would be without
eviction. The pass may follow rows that were read before, or earlier chunks. Knows nothing of text or decoding.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.attention.input_norms import noted_input_norms
from judgeq.cache.layers import MemoryRows
from judgeq.cache.prefix import LayerCallback, PrefixCache, Progress, pass_sizes
from judgeq.cache.retained import FrozenCache, UnstoredCache
from judgeq.config import check_chunk
from judgeq.errors import InputError
from judgeq.inference.appended import SharedPass, placed, shared_passes, with_soft_tokens
from judgeq.inference.attending import CountedHeads, PromptAttention
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.request import Request, check_question_known
from judgeq.methods import LayerView
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import check_appended, check_chunks, rope_depends_on_length
from judgeq.objects import brief
from judgeq.prompts.token_words import number_words
from judgeq.soft_tokens.tensors import SoftTokenTensors


@dataclass(eq=False)
class Prefill:
    """A prompt that has been read once, for all plans of a request.

    Attributes:
        request: what was asked.
        logits: (B, V) of the last token that was not a soft token.
        retained: one entry a plan, in the order of the plans.
        full_kv_bytes: bytes of the prompt's complete rows, summed over layers as they passed; of layers with a sliding
            window the window's.
        peak_rows: most rows stored at once, summed over layers: all plans' rows, the current layer, and the complete
            rows that this pass follows.
        finished: when the pass was over, by `time.perf_counter`; on a GPU, when all of it was queued.
        memory: for each layer the rows of the memory tokens of this pass; empty where there were none.
        response: (1, R) int64, the full cache's greedy answer without its end, where a plan scores with it.
        attended: (P, T + 1), what the first token of an answer attends to, see `Recorder`; None where the
            request does not ask for it.
    """

    __repr__ = brief

    request: Request
    logits: Tensor
    retained: list[Retained]
    full_kv_bytes: int
    peak_rows: int
    finished: float
    memory: list[MemoryRows] = field(default_factory=list)
    response: Tensor | None = None
    attended: Tensor | None = None

    @property
    def prefill_s(self) -> float:
        """Seconds from the request until the first token could be chosen, without any second pass."""
        return self.finished - self.request.started


@torch.inference_mode()
def prefill(
    lm: LanguageModel,
    input_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: SoftTokenTensors | None = None,
    prefix: PrefixCache | None = None,
    chunk: int | None = None,
    memory: int = 0,
    attended: CountedHeads | None = None,
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """Read a prompt once, for all plans.

    Args:
        input_ids: (B, T) int64.
        plans: methods and budgets; none of them may need a response (see `second_pass`).
        soft_tokens: appended to the prompt; needed as soon as a method scores with them, or keeps memory rows.
        prefix: rows of tokens that were read before, left unchanged. Leading tokens of the prompt that agree with them
            are not read again, as far as the methods do not need their queries.
        chunk: most tokens of a pass; all but the last add rows to every layer, and the last evicts. None reads the
            prompt in one pass.
        memory: so many memory tokens read the prompt even if no plan keeps their rows, for a second pass.
        attended: see `Request`; of one prompt only.
        on_layer: progress, and a place to cancel.

    Raises:
        InputError: a plan needs soft tokens and there are none, or needs a response; a chunk without a token, or
            chunks that the model's positions do not allow.
    """
    request = Request(lm, input_ids, plans, soft_tokens=soft_tokens, chunk=check_chunk(chunk), attended=attended)
    check_first_pass(plans)
    batch, tokens = input_ids.shape
    kept_memory = [plan.memory_rows(tokens) for plan in plans]
    passes = shared_passes(lm, plans, soft_tokens, kept_memory, memory)
    queries = [plan.method.queries_needed for plan in plans]
    last, need_sums = min(tokens, max([1, *filter(None, queries)])), None in queries
    before = None
    if prefix is not None and not _rotated_otherwise(lm, prefix.seen, tokens):
        before = prefix.match_prefix(input_ids, tokens - last, need_sums)
    first = 0 if before is None else before.seen
    sizes = pass_sizes(tokens - first, request.chunk, last)
    check_chunks(lm.model, lm.name, first + sizes[0], tokens)
    if len(passes) > 1 and sizes[-1] > last and not _rotated_otherwise(lm, tokens - last, tokens):
        sizes[-1:] = [sizes[-1] - last, last]  # all of them follow the rows of what comes before
    *early, final = input_ids[:, first:].split(sizes, dim=1)
    if early and before is None:
        most = max(0 if each.soft_tokens is None else each.soft_tokens.appended for each in passes)
        before = PrefixCache(lm.model.config, batch, tokens + most)
    progress = Progress(on_layer, (len(early) + len(passes)) * lm.geometry.layers)
    if before is not None:
        before.read(lm, early, progress, attention_sums=need_sums)
    return _evicting_passes(request, passes, input_ids, progress, final, before)


@torch.inference_mode()
def second_pass(
    lm: LanguageModel,
    prompt_ids: Tensor,
    rows: FrozenCache,
    response_ids: Tensor,
    plans: Sequence[Plan],
    *,
    soft_tokens: SoftTokenTensors | None = None,
    memory: Sequence[MemoryRows] = (),
    replayed: tuple[int, int] | None = None,
    previous_scores: Sequence[Tensor | None] = (),
    on_layer: LayerCallback | None = None,
) -> Prefill:
    """Evict from complete rows by the attention of a response, with a pass over the response alone.

    Args:
        prompt_ids: (B, T) int64.
        rows: the prompt's complete rows.
        response_ids: (B, R) int64, what the methods' writer answered, or how that begins.
        plans: methods that need a response.
        soft_tokens: appended to the response; needed as soon as a method scores with them.
        memory: for each layer rows of memory tokens, which read the prompt in the first pass, for plans that keep some.
        replayed: see `LayerView`.
        previous_scores: for each layer those of the replays before this one, see `LayerView`; empty = none.

    Raises:
        InputError: a plan needs soft tokens and there are none.
    """
    request = Request(lm, response_ids, plans, soft_tokens=soft_tokens)
    passes = shared_passes(lm, plans, soft_tokens)
    progress = Progress(on_layer, len(passes) * lm.geometry.layers)
    with contextlib.ExitStack() as stack:
        weighs = any(plan.method.weighs for plan in plans)
        norms = stack.enter_context(noted_input_norms(lm.model)) if weighs else {}
        replay = _Replay(replayed, previous_scores, norms)
        return _evicting_passes(request, passes, prompt_ids, progress, response_ids, rows, memory, replay)


@dataclass(frozen=True, eq=False)
class _Replay:
    """What is known around a replay, see `LayerView`; for each layer, but `replayed`."""

    replayed: tuple[int, int] | None = None
    previous_scores: Sequence[Tensor | None] = ()
    input_norms: Mapping[int, Tensor] = field(default_factory=dict)

    def of_layer(self, layer: int) -> dict[str, Any]:
        return {
            "replayed": self.replayed,
            "previous_scores": self.previous_scores[layer] if self.previous_scores else None,
            "input_norms": self.input_norms.get(layer),
        }


class Eviction:
    """The observer of a pass: lets every plan take its rows, layer by layer."""

    def __init__(
        self,
        request: Request,
        prompt_ids: Tensor,
        soft_tokens: SoftTokenTensors | None,
        progress: Progress,
        prefix: PrefixCache | None = None,
        response_tokens: int = 0,
        memory: Sequence[MemoryRows] = (),
        replay: _Replay = _Replay(),
    ) -> None:
        """Before the pass, and before the chunks that precede it.

        Args:
            prompt_ids: (B, T) int64.
            soft_tokens: those at the end of the pass, with their memory tokens.
            prefix: rows that the pass follows; freed layer by layer, unless they are shared.
            response_tokens: of a response after the prompt.
            memory: see `second_pass`; by default the rows of this pass's own memory tokens.
            replay: see `second_pass`.
        """
        lm, prompt_tokens = request.lm, prompt_ids.shape[1]
        self.request, self.soft_tokens, self.progress, self.prefix = request, soft_tokens, progress, prefix
        self.sizes: dict[str, Any] = {"prompt_tokens": prompt_tokens, "response_tokens": response_tokens}
        self.prompt_hashes, self.replay = () if response_tokens else prompt_hashes(prompt_ids), replay
        self.offsets: Tensor | None = None
        self.memory_tokens, self.memory = 0, list(memory)
        self.peak_rows = self.full_kv_bytes = 0
        self._stored = [0] * len(request.plans)
        if soft_tokens is not None:
            self.sizes["soft_tokens"] = len(soft_tokens.embeddings)
            self.memory_tokens = soft_tokens.memory_tokens
            if not response_tokens:
                check_appended(lm.model, lm.name, prompt_tokens, soft_tokens.positions)
            self.offsets = soft_tokens.offsets_at(lm, prompt_tokens + response_tokens)
        self.attended: PromptAttention | None = None
        if request.attended is not None:
            self.attended = PromptAttention(lm, request.attended, prompt_tokens)
        words = None
        if any(plan.method.selection.unit == "word" for plan in request.plans):
            words = number_words(lm.tokenizer, prompt_ids).to(lm.device)
        self.retained = [
            Retained.of_prompt(lm, plan, prompt_tokens, self.prompt_hashes, words) for plan in request.plans
        ]

    def observe(self, call: AttentionCall) -> None:
        rows = call.keys.shape[2]
        if self.memory_tokens:
            call = self._without_memory(call)
        memory = self.memory[call.layer] if self.memory else None
        view = LayerView(
            **vars(call),
            **self.sizes,
            **self.replay.of_layer(call.layer),
            offsets=None if self.offsets is None else self.offsets[call.layer],
            prefix_attention=None if self.prefix is None else self.prefix.attention_of(call.layer),
            rotate_ahead=partial(self.request.lm.rotate_ahead, call.layer, self.sizes["prompt_tokens"]),
            prompt_hashes=self.prompt_hashes,
        )
        if self.attended is not None:
            self.attended.add(view)
        for at, retained in enumerate(self.retained):
            self._stored[at] += retained.take(view, evictable=call.window is None, memory=memory)
        rows += sum(-(-stored // call.keys.shape[1]) for stored in self._stored)
        if self.prefix is not None:
            rows += self.prefix.drop_layer(call.layer)
        self.peak_rows = max(self.peak_rows, rows)
        visible = slice(None if call.window is None else 1 - call.window, None)  # to later tokens
        for states in view.prompt_rows:
            self.full_kv_bytes += states[:, :, visible].numel() * states.element_size()
        self.progress.step()

    def _without_memory(self, call: AttentionCall) -> AttentionCall:
        """The call as it is without memory tokens, whose rows are copied to `memory`."""
        own, others = slice(-self.memory_tokens, None), slice(None, -self.memory_tokens)
        self.memory.append((call.keys[:, :, own].clone(), call.values[:, :, own].clone()))
        queries, keys, values = (states[:, :, others] for states in (call.queries, call.keys, call.values))
        return replace(call, queries=queries, keys=keys, values=values)

    def outcome(self, logits: Tensor) -> Prefill:
        """The result, when the pass is over.

        Args:
            logits: (B, 1, V), the model's.
        """
        for retained in self.retained:
            retained.settle(self.sizes["prompt_tokens"])
        return Prefill(
            self.request,
            logits[:, -1].float(),
            self.retained,
            self.full_kv_bytes,
            self.peak_rows,
            time.perf_counter(),
            self.memory if self.memory_tokens else [],
            attended=None if self.attended is None else self.attended.means,
        )


def _evicting_passes(
    request: Request,
    passes: Sequence[SharedPass],
    prompt_ids: Tensor,
    progress: Progress,
    ids: Tensor,
    rows: PrefixCache | FrozenCache | None,
    memory: Sequence[MemoryRows] = (),
    replay: _Replay = _Replay(),
) -> Prefill:
    """Passes over the end of a prompt, or over a response, after the same `rows`, each with its own soft tokens."""
    prefix = rows if isinstance(rows, PrefixCache) else None
    response_tokens = ids.shape[1] if isinstance(rows, FrozenCache) else 0
    found = []
    for each in passes:
        own = replace(request, plans=[request.plans[place] for place in each.places])
        if prefix is not None and len(passes) > 1:
            rows = prefix.fork()
        before = rows if isinstance(rows, PrefixCache) else None
        eviction = Eviction(own, prompt_ids, each.soft_tokens, progress, before, response_tokens, memory, replay)
        found.append(_evicting_pass(eviction, ids, rows))
    by_place = {
        place: kept
        for each, outcome in zip(passes, found, strict=True)
        for place, kept in zip(each.places, outcome.retained, strict=True)
    }
    return replace(
        found[0],
        request=request,
        retained=[by_place[place] for place in range(len(request.plans))],
        peak_rows=_peak_rows(found),
        finished=found[-1].finished,
        memory=next((outcome.memory for outcome in found if outcome.memory), []),
    )


def _peak_rows(found: Sequence[Prefill]) -> int:
    """Most rows stored at once: while a later pass runs, what the earlier ones have kept is stored too."""
    held = peak = 0
    for outcome in found:
        peak = max(peak, held + outcome.peak_rows)
        held += sum(kept.cache.rows for kept in outcome.retained)
    return peak


def _evicting_pass(eviction: Eviction, ids: Tensor, rows: PrefixCache | FrozenCache | None) -> Prefill:
    """A pass over the end of a prompt, or over a response, after `rows`, with soft tokens at its own end."""
    lm = eviction.request.lm
    embeds, adapted = with_soft_tokens(lm, ids, eviction.soft_tokens)
    seen = 0 if rows is None else rows.get_seq_length()
    with adapted:
        output = lm.model(
            inputs_embeds=embeds,
            cache=UnstoredCache() if rows is None else rows,
            use_cache=True,
            logits_to_keep=torch.arange(ids.shape[1] - 1, ids.shape[1], device=lm.device),
            observer=eviction,
            **placed(embeds, seen, eviction.soft_tokens),
        )
    return eviction.outcome(output.logits)


def check_first_pass(plans: Sequence[Plan]) -> None:
    """Refuse plans that need a response or a replay, with an `InputError`."""
    check_question_known(plan.method for plan in plans)
    for plan in plans:
        if plan.method.needs_response:
            raise InputError(f"The method {plan.method.name!r} needs a response: it takes a second pass")


def prompt_hashes(input_ids: Tensor) -> tuple[int, ...]:
    """A 64-bit hash of each prompt's tokens (B, T): the same on every run and machine."""
    rows = input_ids.cpu().numpy().astype("<i8")
    return tuple(int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:8], "big") for row in rows)


def _rotated_otherwise(lm: LanguageModel, seen: int, tokens: int) -> bool:
    """Whether one pass over a prompt of `tokens` would rotate rows otherwise than the pass over `seen` tokens did."""
    shorter, longer = sorted((seen, tokens))
    return bool(rope_depends_on_length(lm.model, shorter, longer - shorter))
