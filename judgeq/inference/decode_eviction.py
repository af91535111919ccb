"""Bounded decoding: while an answer is written rows are evicted again every few tokens (`Decoding.evict_every`), the
answer's own included.

The method scores the rows that each KV head stores, of prompt and answer alike, and every head keeps its budget of
them: it never stores more than that and the tokens between two evictions. Judge Q appends its soft tokens for that and
removes them again; methods that score with the prompt's last tokens use those written since the previous eviction. Kept
rows are not changed: keys carry their positions, and *seen* keeps counting. Memory rows are neither scored nor
evicted: the first of the budget's rows are theirs. Knows nothing of text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.cache.layers import Head, RetainedLayer
from judgeq.inference.appended import appended, with_soft_tokens
from judgeq.inference.attending import Recorder
from judgeq.inference.decode import logits_after
from judgeq.inference.plan import Retained
from judgeq.inference.request import check_decode_eviction
from judgeq.methods import LayerView
from judgeq.methods.selection import Forced, first_rows, rank_rows
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.token_words import number_words
from judgeq.soft_tokens.tensors import SoftTokenTensors


class DecodingEviction:
    """Extends the retained rows of one prompt token by token, and evicts from all of them every few tokens.

    Attributes:
        plan: the method, and the budget as it was requested.
        rounds: evictions so far.
    """

    def __init__(
        self,
        lm: LanguageModel,
        retained: Retained,
        budget: int,
        every: int,
        soft_tokens: SoftTokenTensors | None = None,
    ) -> None:
        """The cache of `retained` is extended and cut from here on.

        Args:
            budget: rows per KV head; may exceed the prompt.
            every: tokens between two evictions, at least 1.
            soft_tokens: needed if the method scores with them.

        Raises:
            InputError: the method cannot evict while an answer is written, splits its budget, or lacks soft tokens.
        """
        self.plan, self._prompt_hashes = replace(retained.plan, budget=budget), retained.prompt_hashes
        check_decode_eviction([self.plan.method])
        self.lm, self.cache, self.every = lm, retained.cache, every
        self._prompt_words = self._words = retained.words
        self._answer: list[int] = []
        self._memory = {layer: 0 if kept is None else retained.memory for layer, kept in enumerate(retained.kept)}
        self.soft_tokens = appended(lm, self.plan.method, soft_tokens)
        self.rounds = 0
        self._evicted_at = self._tried_at = self.cache.get_seq_length()  # tokens seen by then
        layers = [layer for layer, sliding in enumerate(self.cache.is_sliding) if not sliding]
        self._rows = {layer: _HeadRows.of_prefill(retained, layer, self._evicted_at) for layer in layers}
        needed = self.plan.method.queries_needed  # one at least: the last call shows what else a layer has
        longest = None if needed is None else max(1, needed)
        self._calls: dict[int, deque[AttentionCall]] = {layer: deque(maxlen=longest) for layer in layers}

    def next_logits(self, token: int, observer: Recorder | None = None) -> Tensor:
        """(1, V) after one more token, see `decode.next_logits`; evicts before it when that is due."""
        return self.read(torch.tensor([[token]]), observer)[0]

    @torch.inference_mode()
    def read(self, ids: Tensor, recorder: Recorder | None = None) -> Tensor:
        """Logits (1, N, V) after each of more tokens (1, N) int64; evicts before those where that is due.

        Args:
            recorder: observes the passes, and learns which rows are left after an eviction; of one token only.
        """
        observer = _Observer(lambda call: self._calls[call.layer].append(_without_rows(call)), recorder)
        found = []
        while ids.shape[1]:
            seen = self.cache.get_seq_length()
            if seen - self._tried_at >= self.every:
                if seen > self.plan.budget:
                    self.evict()
                    if recorder is not None:
                        recorder.stored(*self._stored_heads())
                self._tried_at = seen
            due = self.every - (seen - self._tried_at)
            self._answer += ids[0, :due].tolist()
            found.append(logits_after(self.lm, self.cache, ids[:, :due], observer=observer))
            ids = ids[:, due:]
        return torch.cat(found, dim=1)

    @torch.inference_mode()
    def evict(self) -> None:
        """Let the method choose among all rows that are stored; some token must have been written before.

        First all layers are scored, then all are cut: if the method fails, no row is lost.
        """
        seen = self.cache.get_seq_length()
        if self._prompt_words is not None and self._answer:
            new = number_words(self.lm.tokenizer, torch.tensor([self._answer])).to(self._prompt_words.device)
            self._words = torch.cat([self._prompt_words, new + self._prompt_words[:, -1:] + 1], dim=1)
        if self.soft_tokens is None:
            chosen = {layer: self._choose(_joined(calls), seen) for layer, calls in self._calls.items()}
        else:
            chosen = self._choose_with_soft_tokens(self.soft_tokens, seen)
        for layer, heads in chosen.items():
            rows: list[Head] = self.cache.layers[layer].heads()
            first = self._memory[layer]
            kept = [
                (_with_first(keys, own, first), _with_first(values, own, first))
                for (keys, values), (own, _) in zip(rows, heads, strict=True)
            ]
            self.cache.layers[layer].replace_rows(kept, seen)
            self._rows[layer] = [rows for _, rows in heads]
            self._calls[layer].clear()
        self._evicted_at = seen
        self.rounds += 1

    def _stored_heads(self) -> tuple[list[list[Tensor] | None], list[int]]:
        """What `Recorder.stored` takes, right after an eviction."""
        layers = range(len(self.cache.layers))
        heads = [[rows.positions for rows in self._rows[at]] if at in self._rows else None for at in layers]
        return heads, [self._memory[at] for at in layers]

    def stored_tokens(self) -> list[list[Tensor]]:
        """For each layer and KV head (rows,) int64 on the CPU, ascending: the tokens whose rows are stored now.

        The answer's first token has the number of the prompt's length.
        """
        seen, kv_heads = self.cache.get_seq_length(), self.lm.geometry.kv_heads
        new = torch.arange(self._evicted_at, seen)
        return [
            [torch.cat([head.positions.cpu(), new]) for head in self._rows[at]]
            if at in self._rows
            else [torch.arange(max(0, seen - layer.sliding_window + 1), seen)] * kv_heads
            for at, layer in enumerate(self.cache.layers)
        ]

    def _choose_with_soft_tokens(self, soft_tokens: SoftTokenTensors, seen: int) -> dict[int, list[_Choice]]:
        """A pass over the soft tokens, which leave no rows; each layer chooses right after its attention."""
        nothing = torch.empty(1, 0, dtype=torch.int64, device=self.lm.device)
        embeds, adapted = with_soft_tokens(self.lm, nothing, soft_tokens)
        offsets = soft_tokens.offsets_at(self.lm, seen)
        chosen: dict[int, list[_Choice]] = {}

        def choose(call: AttentionCall) -> None:
            joined = _joined([*self._calls[call.layer], call])
            added = None if offsets is None else offsets[call.layer]
            chosen[call.layer] = self._choose(joined, seen, embeds.shape[1], added)

        with adapted, self.cache.passing(embeds.shape[1]):
            self.lm.model(
                inputs_embeds=embeds,
                cache=self.cache,
                use_cache=True,
                logits_to_keep=1,
                observer=_Observer(choose),
            )
        return chosen

    def _choose(
        self, call: AttentionCall, seen: int, soft_tokens: int = 0, offsets: Tensor | None = None
    ) -> list[_Choice]:
        """Score and select in every head of a layer.

        Args:
            call: with the queries (1, H, Q, D) of all tokens that score, the last `soft_tokens` of them soft tokens'.
            seen: tokens that have passed, without the soft tokens.
            offsets: (H, S, D), see `LayerView`.
        """
        layer: RetainedLayer = self.cache.layers[call.layer]
        first = self._memory[call.layer]
        # with the soft tokens' at the end
        stored = [(keys[first:], values[first:]) for keys, values in layer.heads()]
        known = [rows.extended(seen - self._evicted_at, seen) for rows in self._rows[call.layer]]
        group, dim = call.queries.shape[1] // len(stored), stored[0][1].shape[-1]
        views = []
        for head, ((keys, values), rows) in enumerate(zip(stored, known, strict=True)):
            own = slice(head * group, (head + 1) * group)
            alone = replace(
                call,
                queries=call.queries[:, own],
                keys=keys[None, None],
                values=values[None, None],
                output_weight=_columns(call, slice(own.start * dim, own.stop * dim)),
            )
            view = LayerView(
                **vars(alone),
                prompt_tokens=len(rows.positions),
                soft_tokens=soft_tokens,
                offsets=None if offsets is None else offsets[own],
                row_ages=seen - rows.positions,
                previous_scores=None if rows.scores is None else rows.scores[None, None],
                rotate_ahead=partial(self.lm.rotate_ahead, call.layer, seen),
                draw_id=(self.rounds + 1) * len(stored) + head,
                prompt_hashes=self._prompt_hashes,
            )
            views.append(view)
        scores = [self.plan.method.score(view) for view in views]
        if self.plan.method.same_rows:
            scores = [torch.stack([score for score in scores if score is not None]).mean(0)] * len(scores)
        return [
            (own, _HeadRows(rows.positions[own], None if score is None else score[0, 0, own]))
            for rows, view, score in zip(known, views, scores, strict=True)
            for own in [self._select(rows, view, score)]
        ]

    def _select(self, known: _HeadRows, view: LayerView, score: Tensor | None) -> Tensor:
        """The indices (rows,) of the rows that one KV head keeps."""
        if score is None:
            return torch.arange(view.prompt_tokens, device=view.keys.device)
        selection = self.plan.method.selection
        words = None if self._words is None else self._words.to(score.device)[:, known.positions]
        ranked = rank_rows(score, selection, known.pinned(self.plan.forced.pinned), words)
        norms = view.value_norms() if selection.value_aware else None
        return first_rows(ranked, self.plan.budget - self._memory[view.layer], norms)[0, 0]


@dataclass(frozen=True, eq=False)
class _HeadRows:
    """The rows of one KV head, as of its last eviction.

    Attributes:
        positions: (rows,) int64 ascending, the tokens they belong to.
        scores: (rows,) float32; None where nothing was scored.
    """

    positions: Tensor
    scores: Tensor | None

    @classmethod
    def of_prefill(cls, retained: Retained, layer: int, tokens: int) -> list[_HeadRows]:
        """For each KV head of a layer: what the prefill kept of `tokens` tokens."""
        kept, scores = retained.kept[layer], retained.scores[layer]
        keys = retained.cache.layers[layer].keys
        device = keys.device  # the layers may be spread over several
        if kept is None:
            return [cls(torch.arange(tokens, device=device), None)] * keys.shape[1]
        return [
            cls(rows.to(device), None if scores is None else scores[0, head, rows].to(device))
            for head, rows in enumerate(kept[0])
        ]

    def pinned(self, tokens: Sequence[int]) -> Forced:
        """The rows of these tokens, pinned once more; dropped tokens have none."""
        wanted = torch.tensor(tokens, dtype=torch.int64, device=self.positions.device)
        return Forced(tuple(torch.isin(self.positions, wanted).nonzero()[:, 0].tolist()))

    def extended(self, new: int, seen: int) -> _HeadRows:
        """With the `new` last ones of `seen` tokens, whose score is 0 so far."""
        latest = torch.arange(seen - new, seen, device=self.positions.device)
        scores = None if self.scores is None else F.pad(self.scores, (0, new))
        return _HeadRows(torch.cat([self.positions, latest]), scores)


_Choice = tuple[Tensor, _HeadRows]
"""Indices (rows,) int64 of the rows that one KV head keeps, among those it stores, and what they are."""


class _Observer:
    """Hands on the calls of all layers without a sliding window; the others are bounded already."""

    def __init__(self, take: Callable[[AttentionCall], None], recorder: Recorder | None = None) -> None:
        """`recorder`: gets all calls, with their weights."""
        self.take, self.recorder, self.weighs = take, recorder, recorder is not None

    def observe(self, call: AttentionCall) -> None:
        if self.recorder is not None:
            self.recorder.observe(call)
        if call.window is None:
            self.take(call)


def _without_rows(call: AttentionCall) -> AttentionCall:
    """A call whose keys and values can be freed."""
    nothing = call.keys.new_empty(0)
    return replace(call, keys=nothing, values=nothing, weights=None)


def _joined(calls: Sequence[AttentionCall] | deque[AttentionCall]) -> AttentionCall:
    """Consecutive calls of one layer as one, with all their queries."""
    return replace(calls[-1], queries=torch.cat([call.queries for call in calls], dim=2))


def _with_first(rows: Tensor, kept: Tensor, first: int) -> Tensor:
    """The `first` rows (rows, D) of a head, and after them the `kept` ones, which are counted without these."""
    return rows[kept] if not first else torch.cat([rows[:first], rows[first:][kept]])


def _columns(call: AttentionCall, columns: slice) -> Callable[[], Tensor]:
    """Gives one head's columns of the output projection."""
    return lambda: call.output_weight()[:, columns]
