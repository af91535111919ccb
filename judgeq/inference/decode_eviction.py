"""Bounded decoding: while an answer is written all rows are judged again every few tokens, its own included.

The method scores the rows that each KV head holds, of prompt and answer alike, and the head keeps its budget of them.
So it never holds more than the budget and the tokens between two judgements. Judge Q appends its soft tokens for that
and takes them away again; methods that ask with the prompt's last tokens ask with those written since the last
judgement. What stays is not changed: keys carry their positions, and *seen* goes on counting. Knows nothing of text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.cache.ragged import Head
from judgeq.errors import InputError
from judgeq.inference.decode import next_logits
from judgeq.inference.plan import Retained
from judgeq.inference.prefill import asked_with, with_soft_tokens
from judgeq.methods import LayerView, Method
from judgeq.methods.selection import Forced, allocate_heads, rank_rows
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors


def check_rejudging(methods: Iterable[Method]) -> None:
    """Refuse methods that cannot judge while an answer is written.

    Raises:
        InputError: one needs an answer, or how it begins, before that is written; or stores its rows in few bits.
    """
    for method in methods:
        if method.needs_response:
            raise InputError(
                f"The method {method.name!r} looks at an answer that was written ahead and cannot judge again while "
                "one is written: choose another, such as judgeq or snapkv, or leave rejudge_every out"
            )
        if method.selection.bits is not None:
            raise InputError(
                "Rows in few bits would be rounded once more each time they are judged again: give row_bits or "
                "rejudge_every, not both"
            )


@dataclass(frozen=True, eq=False)
class _Held:
    """The rows that one KV head held when they were last judged.

    Attributes:
        positions: (rows,) int64 ascending, the tokens they stand for.
        scores: (rows,) float32, by which they stayed; None where nothing was scored.
    """

    positions: Tensor
    scores: Tensor | None

    @classmethod
    def at_first(cls, retained: Retained, layer: int, tokens: int) -> list[_Held]:
        """For each KV head of a layer: what the prefill kept of `tokens` tokens."""
        kept, scores = retained.kept[layer], retained.scores[layer]
        keys = retained.cache.layers[layer].keys
        device = keys.device  # the layers may be spread over several
        if kept is None:
            return [cls(torch.arange(tokens, device=device), None)] * keys.shape[1]
        heads = kept if isinstance(kept, tuple) else kept[0]
        return [
            cls(rows.to(device), None if scores is None else scores[0, head, rows].to(device))
            for head, rows in enumerate(heads)
        ]

    def pinned(self, tokens: Sequence[int]) -> Forced:
        """The rows of these tokens, to be kept once more; tokens that were dropped have none."""
        wanted = torch.tensor(tokens, dtype=torch.int64, device=self.positions.device)
        return Forced(tuple(torch.isin(self.positions, wanted).nonzero()[:, 0].tolist()))

    def followed_by(self, new: int, seen: int) -> _Held:
        """With the `new` last ones of `seen` tokens, which have no score yet."""
        latest = torch.arange(seen - new, seen, device=self.positions.device)
        scores = None if self.scores is None else F.pad(self.scores, (0, new))
        return _Held(torch.cat([self.positions, latest]), scores)


@dataclass(frozen=True, eq=False)
class _Asking:
    """Who asks in one layer, or in one KV head of it; see `LayerView`.

    Attributes:
        queries: (1, H, Q, D), the last `soft_tokens` of them the soft tokens'.
        offsets: (H, S, D), or None.
    """

    layer: int
    queries: Tensor
    scaling: float
    softcap: float | None
    output_weight: Callable[[], Tensor]
    soft_tokens: int = 0
    offsets: Tensor | None = None

    def heads(self, kv_heads: int, dim: int) -> list[_Asking]:
        """Each KV head alone; its values have `dim` channels."""
        group = self.queries.shape[1] // kv_heads

        def alone(head: int) -> _Asking:
            own = slice(head * group, (head + 1) * group)
            columns = slice(own.start * dim, own.stop * dim)
            return replace(
                self,
                queries=self.queries[:, own],
                output_weight=lambda: self.output_weight()[:, columns],
                offsets=None if self.offsets is None else self.offsets[own],
            )

        return [alone(head) for head in range(kv_heads)]

    def view(self, rows: Head, held: _Held, seen: int, draw: int, prompts: tuple[int, ...]) -> LayerView:
        """What the method sees of this KV head.

        Args:
            rows: what is held, and behind it the soft tokens' rows.
            held: what is known of it.
            seen: tokens that have passed, without the soft tokens.
            draw, prompts: see `LayerView`.
        """
        keys, values = rows
        return LayerView(
            layer=self.layer,
            queries=self.queries,
            keys=keys[None, None],
            values=values[None, None],
            prompt_tokens=len(held.positions),
            response_tokens=0,
            soft_tokens=self.soft_tokens,
            scaling=self.scaling,
            output_weight=self.output_weight,
            offsets=self.offsets,
            softcap=self.softcap,
            ages=seen - held.positions,
            earlier=None if held.scores is None else held.scores[None, None],
            draw=draw,
            prompts=prompts,
        )


_Choice = tuple[Tensor, _Held]
"""The rows (rows,) int64 of one KV head that stay, as indices into those it holds, and what is known of them."""


class _Observer:
    """Hands on who asks, layer by layer; layers with a sliding window are bounded already."""

    def __init__(self, take: Callable[[_Asking], None]) -> None:
        self.take = take

    def observe(self, call: AttentionCall) -> None:
        if call.window is None:
            self.take(_Asking(call.layer, call.queries, call.scaling, call.softcap, call.output_weight))


class DecodingEviction:
    """Continues behind the retained rows of one prompt, and judges them and all later ones again and again.

    Attributes:
        plan: the method, and the budget as it was asked for.
        rounds: times that the rows have been judged again.
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
            every: tokens between two judgements, at least 1.
            soft_tokens: needed if the method asks with them.

        Raises:
            InputError: the method cannot judge while an answer is written, or lacks soft tokens.
        """
        self.plan, self._prompts = replace(retained.plan, budget=budget), retained.prompts
        check_rejudging([self.plan.method])
        self.lm, self.cache, self.every = lm, retained.cache, every
        self.soft_tokens = asked_with([self.plan], soft_tokens)
        self.rounds = 0
        self._judged = self._tried = self.cache.get_seq_length()  # tokens seen by then
        judged = [layer for layer, sliding in enumerate(self.cache.is_sliding) if not sliding]
        self._held = {layer: _Held.at_first(retained, layer, self._judged) for layer in judged}
        needed = self.plan.method.queries_needed  # one at least: with the last comes what else a layer shows
        longest = None if needed is None else max(1, needed)
        self._asked: dict[int, deque[_Asking]] = {layer: deque(maxlen=longest) for layer in judged}

    def next_logits(self, token: int) -> Tensor:
        """(1, V) behind one more token, as `decode.next_logits` gives them; judges before it where that is due."""
        seen = self.cache.get_seq_length()
        if seen - self._tried >= self.every:
            if seen > self.plan.budget:
                self.judge()
            self._tried = seen
        return next_logits(self.lm, self.cache, token, observer=_Observer(self._remember))

    @torch.inference_mode()
    def judge(self) -> None:
        """Let the method choose among all rows that are held now; some token must have been written before.

        First every layer is judged, then every layer is cut: if the method fails, all rows are still there.
        """
        seen = self.cache.get_seq_length()
        if self.soft_tokens is None:
            chosen = {at: self._choose(_joined(asked), seen) for at, asked in self._asked.items()}
        else:
            chosen = self._ask(self.soft_tokens, seen)
        for at, heads in chosen.items():
            rows: list[Head] = self.cache.layers[at].heads()
            stay = [(keys[own], values[own]) for (keys, values), (own, _) in zip(rows, heads, strict=True)]
            self.cache.layers[at].hold(stay, seen)
            self._held[at] = [held for _, held in heads]
            self._asked[at].clear()
        self._judged = seen
        self.rounds += 1

    def held(self) -> list[list[Tensor]]:
        """For each layer and KV head (rows,) int64 on the CPU, ascending: the tokens whose rows are held now.

        The answer's first token has the number of the prompt's length.
        """
        seen, kv_heads = self.cache.get_seq_length(), self.lm.geometry.kv_heads
        new = torch.arange(self._judged, seen)
        return [
            [torch.cat([head.positions.cpu(), new]) for head in self._held[at]]
            if at in self._held
            else [torch.arange(max(0, seen - layer.sliding_window + 1), seen)] * kv_heads
            for at, layer in enumerate(self.cache.layers)
        ]

    def _remember(self, asking: _Asking) -> None:
        self._asked[asking.layer].append(asking)

    def _ask(self, soft_tokens: SoftTokenTensors, seen: int) -> dict[int, list[_Choice]]:
        """A pass over the soft tokens, whose rows go at once; each layer is judged right behind its attention."""
        nothing = torch.empty(1, 0, dtype=torch.int64, device=self.lm.device)
        embeds, adapted = with_soft_tokens(self.lm, nothing, soft_tokens)
        count = embeds.shape[1]
        offsets = soft_tokens.offsets_at(self.lm, seen)
        chosen: dict[int, list[_Choice]] = {}

        def take(asking: _Asking) -> None:
            joined = _joined([*self._asked[asking.layer], asking])
            added = None if offsets is None else offsets[asking.layer]
            chosen[asking.layer] = self._choose(replace(joined, soft_tokens=count, offsets=added), seen)

        look = _Observer(take)
        with adapted, self.cache.passing(count):
            self.lm.model(
                inputs_embeds=embeds, cache=self.cache, use_cache=True, logits_to_keep=1, observer=look
            )
        return chosen

    def _choose(self, asking: _Asking, seen: int) -> list[_Choice]:
        """Score and select in every head of a layer."""
        rows: list[Head] = self.cache.layers[asking.layer].heads()
        held = [head.followed_by(seen - self._judged, seen) for head in self._held[asking.layer]]
        askers = asking.heads(len(rows), rows[0][1].shape[-1])
        draw = (self.rounds + 1) * len(rows)
        views = [
            each.view(rows[at], held[at], seen, draw + at, self._prompts) for at, each in enumerate(askers)
        ]
        scores = [self.plan.method.score(view) for view in views]
        kept = self._select(held, views, scores, seen)
        return [
            (own, _Held(head.positions[own], None if score is None else score[0, 0, own]))
            for head, score, own in zip(held, scores, kept, strict=True)
        ]

    def _select(
        self,
        held: Sequence[_Held],
        views: Sequence[LayerView],
        scores: Sequence[Tensor | None],
        seen: int,
    ) -> tuple[Tensor, ...]:
        """For each KV head the rows (rows,) that stay."""
        selection, pinned = self.plan.method.selection, self.plan.forced.pinned
        ranked = [
            rank_rows(score, selection, head.pinned(pinned))
            for head, score in zip(held, scores, strict=True)
            if score is not None
        ]
        if not ranked:
            return tuple(torch.arange(view.prompt_tokens, device=view.keys.device) for view in views)
        shares = self.plan.shares(self.lm, seen)
        return allocate_heads(
            [(rows[0, 0], pooled[0, 0]) for rows, pooled in ranked],
            self.plan.budget,
            selection,
            None if shares is None else shares[views[0].layer],
            [view.value_norms()[0, 0] for view in views] if selection.value_aware else None,
        )


def _joined(asked: Iterable[_Asking]) -> _Asking:
    """Several in one layer, in the order of their tokens."""
    every = list(asked)
    return replace(every[-1], queries=torch.cat([each.queries for each in every], dim=2))
