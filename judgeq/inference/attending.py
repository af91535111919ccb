"""What an answer attends to while it is written: one vector a token, from the weights that its pass computes anyway.

The pass that chooses a token is the one over the token before it; the first token is chosen by the last one of the
prompt. Rows are identified by the prompt token that they belong to. Independent of text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor

from judgeq.attention.call import AttentionCall, RowWeights
from judgeq.cache.ragged import RaggedLayer
from judgeq.errors import InputError
from judgeq.inference.plan import Retained
from judgeq.methods import LayerView
from judgeq.methods.scoring import attention_to_prompt
from judgeq.models.language_model import LanguageModel
from judgeq.retention.head_weights import HeadWeights
from judgeq.values import several, whole

Apart = Literal["layers", "heads"]
WhatAttends = bool | Apart | tuple[int | None, int | None]
"""Whether to record what an answer attends to, or that of each layer, or of each query head too; or of which layer and
query head alone, with None for all of them."""


@dataclass(frozen=True)
class CountedHeads:
    """The query heads whose attention counts.

    Attributes:
        layer, head: of one layer, or one query head of each layer, only; None = all.
        apart: each layer, or each query head of each layer, is recorded apart; their mean is that of all.
    """

    layer: int | None = None
    head: int | None = None
    apart: Apart | None = None

    @classmethod
    def asked(cls, lm: LanguageModel, attended: object) -> CountedHeads | None:
        """From the argument `attended` of `judgeq.read`; None where nothing is recorded.

        Raises:
            InputError: no such layer or head.
        """
        if attended is None or isinstance(attended, bool):
            return cls() if attended else None
        if isinstance(attended, str) and attended in get_args(Apart):
            return cls(apart=cast(Apart, attended))
        sizes = lm.geometry.layers, lm.geometry.heads
        pair = several(attended)
        fits = len(pair) == 2 and all(
            each is None or ((found := whole(each)) is not None and 0 <= found < size)
            for each, size in zip(pair, sizes, strict=True)
        )
        if not fits:
            raise InputError(
                f"attended is {attended!r}: give True, 'layers' or 'heads' for each of them apart, or a layer from 0 "
                f"to {sizes[0] - 1} and a query head from 0 to {sizes[1] - 1}, as in (12, 3), with None for all of them"
            )
        layer, head = (None if each is None else whole(each) for each in pair)
        return cls(layer, head)

    def parts(self, lm: LanguageModel) -> int:
        """`P`, how many sums are recorded: one, one a layer, or one a query head, those of a layer side by side."""
        heads = lm.geometry.heads if self.apart == "heads" else 1
        return lm.geometry.layers * heads if self.apart else 1

    def part(self, lm: LanguageModel, layer: int) -> slice:
        """The sums that a layer counts in."""
        heads = lm.geometry.heads if self.apart == "heads" else 1
        return slice(layer * heads, (layer + 1) * heads) if self.apart else slice(1)

    def means(self, lm: LanguageModel, sums: Tensor) -> Tensor:
        """(P, T) float32 sums -> what a head pays on average; float16 where there are several."""
        layers = 1 if self.apart or self.layer is not None else lm.geometry.layers
        heads = 1 if self.apart == "heads" or self.head is not None else lm.geometry.heads
        means = sums / (layers * heads)
        return means.half() if self.apart else means

    def summed(self, weights: Tensor) -> Tensor:
        """(H_kv, G, K) weights of one layer -> (H_kv, 1, K), those of the query heads that count.

        Where heads are apart nothing is summed.
        """
        if self.apart == "heads":
            return weights
        if self.head is None:
            return weights.sum(1, keepdim=True)
        found, group = torch.zeros_like(weights[:, :1]), weights.shape[1]
        found[self.head // group, 0] = weights[self.head // group, self.head % group]
        return found

    def layer_sums(self, weights: Tensor) -> Tensor:
        """(H_kv, G, K) weights of one layer -> (n, K), what is added to its `part`."""
        found = self.summed(weights)
        return found.flatten(0, 1) if self.apart == "heads" else found.sum(0)


class PromptAttention:
    """What the last token of a prompt attends to, which chooses an answer's first token before anything is evicted.

    Attributes:
        total: (P, T + 1) float32, to each token of the prompt and to memory tokens, which are not there yet; summed
            over the heads that count.
    """

    def __init__(self, lm: LanguageModel, counted: CountedHeads, tokens: int) -> None:
        """`tokens`: `T`."""
        self.lm, self.counted = lm, counted
        self.total = torch.zeros(counted.parts(lm), tokens + 1, dtype=torch.float32, device=lm.device)

    def add(self, view: LayerView) -> None:
        """One layer of the pass that ends with the prompt."""
        if self.counted.layer not in (None, view.layer):
            return
        keys = view.prompt_rows[0]
        keys = keys if view.window is None else keys[:, :, -view.window :]
        last, rows = view.prompt_queries - 1, keys.shape[2]
        queries = view.queries[:1, :, last : last + 1]
        paid = attention_to_prompt(queries, keys[:1], view.scaling, rows - 1, rows, view.softcap)[0, :, :, 0]
        part = self.total[self.counted.part(self.lm, view.layer), -rows - 1 : -1]
        part += self.counted.layer_sums(paid).to(part)

    @property
    def means(self) -> Tensor:
        """(P, T + 1), as in `Recorder.vectors`."""
        return self.counted.means(self.lm, self.total)


class Recorder:
    """Observes the passes over an answer's tokens, one after the other, and adds up what they attend to.

    Attributes:
        weighs: see `Observer`.
        vectors: for each pass (P, T + 1) float32, to the prompt's tokens and to memory tokens: the mean over the heads
            that count, or in float16 over those of each layer, or each head's. What is missing to 1 goes to tokens of
            the answer.
    """

    weighs = True

    def __init__(self, lm: LanguageModel, retained: Retained, tokens: int, counted: CountedHeads) -> None:
        """Before the first pass.

        Args:
            retained: the rows that the passes extend.
            tokens: `T`, of the prompt.
        """
        self._lm, self._tokens, self._counted, self._device = lm, tokens, counted, lm.device
        self._cache, self._seen = retained.cache, retained.cache.get_seq_length()
        self._sum = torch.zeros(counted.parts(lm), tokens + 2, dtype=torch.float32, device=self._device)
        self._chosen: list[tuple[int, RowWeights]] = []
        self.vectors: list[Tensor] = []
        heads = [None if rows is None else list(rows if isinstance(rows, tuple) else rows[0]) for rows in retained.kept]
        self.stored(heads, [0 if rows is None else retained.memory for rows in heads])

    def stored(self, heads: Sequence[list[Tensor] | None], memory: Sequence[int]) -> None:
        """Say which rows are stored now, before the answer's later ones.

        Args:
            heads: for each layer and KV head (rows,) int64, the tokens they belong to, those of the answer from `T` on;
                None for a layer that stores every row, or those of its window.
            memory: for each layer the memory rows in front of each head's.
        """
        self._rows: list[list[Tensor] | None] = []
        for layer, rows, first in zip(self._cache.layers, heads, memory, strict=True):
            if rows is None and isinstance(layer, RaggedLayer) and layer.frozen is not None:
                rows = [torch.arange(self._tokens)] * len(layer.frozen.counts)  # quantized, and all of them
            self._rows.append(None if rows is None else [self._targets(each, first) for each in rows])
        self._index: Tensor | None = None

    def _targets(self, rows: Tensor, memory: int) -> Tensor:
        """Where the weights of a head's rows are added: those of the answer's own tokens in one last place."""
        rows = rows.to(self._device)
        rows = torch.where(rows < self._tokens, rows, self._tokens + 1)
        return torch.cat([rows.new_full((memory,), self._tokens), rows])

    def observe(self, call: AttentionCall) -> None:
        if self._counted.layer not in (None, call.layer) or call.weights is None:
            return
        if self._rows[call.layer] is not None:  # all layers at once later: launching operations takes time
            self._chosen.append((call.layer, call.weights))
            return
        count = call.weights.rows.shape[2] - (self._seen + 1 - self._tokens)
        if count > 0:  # the last ones of the tokens seen
            part = self._sum[self._counted.part(self._lm, call.layer), self._tokens - count : self._tokens]
            part += self._counted.layer_sums(call.weights.rows)[:, :count].to(part)

    def _places(self, layer: int) -> tuple[list[Tensor], Sequence[int]]:
        """For each KV head of a layer where its rows' weights are added, and how many of these rows are frozen."""
        targets, held = self._rows[layer], self._cache.layers[layer]
        assert targets is not None
        frozen = held.frozen if isinstance(held, RaggedLayer) else None
        return targets, [0] * len(targets) if frozen is None else frozen.counts

    def _flat(self, layer: int, weights: RowWeights) -> Tensor:
        """(rows,) the weights of a layer's rows, of query heads that count: frozen ones first, as in `_index_of`."""
        targets, counts = self._places(layer)
        own = self._counted.summed(weights.rows[:, :, : len(targets[0]) - counts[0]]).flatten()
        if weights.frozen is not None:
            own = torch.cat([self._of_frozen(weights.frozen, counts), own])
        return own.to(self._device)

    def _index_of(self, layer: int) -> Tensor:
        targets, counts = self._places(layer)
        part = self._counted.part(self._lm, layer)
        sums = torch.arange(part.start or 0, part.stop, device=self._device)
        groups = sums.view(len(targets) if self._counted.apart == "heads" else 1, -1, 1)
        groups = self._sum.shape[1] * groups.expand(len(targets), -1, 1)
        places = [each + group for each, group in zip(targets, groups, strict=True)]
        parts = [each.split([n, each.shape[1] - n], 1) for each, n in zip(places, counts, strict=True)]
        frozen = torch.cat([each for each, _ in parts], 1)
        return torch.cat([frozen.flatten(), *(each.flatten() for _, each in parts)])

    def _of_frozen(self, weights: Tensor, counts: Sequence[int]) -> Tensor:
        """(G, R) weights of frozen rows -> (R,), those of the query heads that count, or all of them: (G * R,)."""
        if self._counted.apart == "heads":
            return weights.flatten()
        if self._counted.head is None:
            return weights.sum(0)
        head, place = divmod(self._counted.head, len(weights))
        found, first = torch.zeros_like(weights[0]), sum(counts[:head])
        found[first : first + counts[head]] = weights[place, first : first + counts[head]]
        return found

    def _of_all(self) -> Tensor:
        """What `_flat` gives of all layers, one after the other."""
        alike = {(each.rows.shape, each.rows.device, each.frozen is None) for _, each in self._chosen}
        widths = {len(self._places(layer)[0][0]) for layer, _ in self._chosen}
        if len(alike) > 1 or len(widths) > 1 or self._counted.head is not None or not next(iter(alike))[2]:
            return torch.cat([self._flat(*each) for each in self._chosen])
        rows = torch.cat([each.rows for _, each in self._chosen])
        return self._counted.summed(rows[:, :, : widths.pop()]).flatten().to(self._device)

    def next_logits(self, token: int, forward: Callable[..., Tensor]) -> Tensor:
        """What `forward` gives for one more token, observed; a pass that fails leaves nothing.

        Args:
            forward: takes the token and `observer`.
        """
        self._sum.zero_()
        self._chosen.clear()
        logits = forward(token, observer=self)
        self._close()
        return logits

    @torch.inference_mode()
    def _close(self) -> None:
        if self._chosen:
            if self._index is None:
                self._index = torch.cat([self._index_of(layer) for layer, _ in self._chosen])
            self._sum.view(-1).index_add_(0, self._index, self._of_all())
            self._chosen.clear()
        self.vectors.append(self._counted.means(self._lm, self._sum[:, :-1]))
        self._seen += 1


def as_array(vectors: Sequence[Tensor]) -> np.ndarray:
    """(n, T + 1) float32 of n vectors, the mean over their parts."""
    return torch.stack(list(vectors)).cpu().mean(1, dtype=torch.float32).numpy()


def parts_apart(lm: LanguageModel, vectors: Sequence[Tensor]) -> tuple[np.ndarray, HeadWeights | None]:
    """(n, L, T + 1) float16 of n vectors with a part for each layer or query head, and what each head pays."""
    found = torch.stack(list(vectors)).cpu().unflatten(1, (lm.geometry.layers, -1))
    layers = found.mean(2, dtype=torch.float32).half().numpy()
    return layers, HeadWeights.of(found.numpy(), lm.geometry.kv_heads) if found.shape[2] > 1 else None
