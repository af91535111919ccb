"""What an answer attends to while it is written: one vector a token, from the weights that its pass computes anyway.

The pass that chooses a token is the one over the token before it; the first token is chosen by the last one of the
prompt. Rows are identified by the prompt token that they belong to. Independent of text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from judgeq.attention.call import AttentionCall, RowWeights
from judgeq.cache.ragged import RaggedLayer
from judgeq.errors import InputError
from judgeq.inference.plan import Retained
from judgeq.methods import LayerView
from judgeq.methods.scoring import attention_to_prompt
from judgeq.models.language_model import LanguageModel
from judgeq.values import several, whole

WhatAttends = bool | Literal["layers"] | tuple[int | None, int | None]
"""Whether to record what an answer attends to, or that of each layer, too; or of which layer and query head alone, with
None for all of them."""


@dataclass(frozen=True)
class CountedHeads:
    """The query heads whose attention counts.

    Attributes:
        layer, head: of one layer, or one query head of each layer, only; None = all.
        apart: each layer is recorded apart; their mean is that of all.
    """

    layer: int | None = None
    head: int | None = None
    apart: bool = False

    @classmethod
    def asked(cls, lm: LanguageModel, attended: object) -> CountedHeads | None:
        """From the argument `attended` of `judgeq.read`; None where nothing is recorded.

        Raises:
            InputError: no such layer or head.
        """
        if attended is None or isinstance(attended, bool):
            return cls() if attended else None
        if isinstance(attended, str) and attended == "layers":
            return cls(apart=True)
        sizes = lm.geometry.layers, lm.geometry.heads
        pair = several(attended)
        fits = len(pair) == 2 and all(
            each is None or ((found := whole(each)) is not None and 0 <= found < size)
            for each, size in zip(pair, sizes, strict=True)
        )
        if not fits:
            raise InputError(
                f"attended is {attended!r}: give True, 'layers' for each layer apart, or a layer from 0 to "
                f"{sizes[0] - 1} and a query head from 0 to {sizes[1] - 1}, as in (12, 3), with None for all of them"
            )
        layer, head = (None if each is None else whole(each) for each in pair)
        return cls(layer, head)

    def parts(self, lm: LanguageModel) -> int:
        """`P`, how many sums are recorded."""
        return lm.geometry.layers if self.apart else 1

    def part(self, layer: int) -> int:
        """The sum that a layer counts in."""
        return layer if self.apart else 0

    def means(self, lm: LanguageModel, sums: Tensor) -> Tensor:
        """(P, T) float32 sums -> what a head pays on average; float16 where each layer is one of them."""
        layers = 1 if self.apart or self.layer is not None else lm.geometry.layers
        means = sums / (layers * (lm.geometry.heads if self.head is None else 1))
        return means.half() if self.apart else means

    def summed(self, weights: Tensor) -> Tensor:
        """(H_kv, G, K) weights of one layer -> (H_kv, K), those of the query heads that count."""
        if self.head is None:
            return weights.sum(1)
        found, group = torch.zeros_like(weights[:, 0]), weights.shape[1]
        found[self.head // group] = weights[self.head // group, self.head % group]
        return found


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
        self.total[self.counted.part(view.layer), -rows - 1 : -1] += (
            self.counted.summed(paid).sum(0).to(self.total)
        )

    @property
    def means(self) -> Tensor:
        """(P, T + 1), as in `Recorder.vectors`."""
        return self.counted.means(self.lm, self.total)


class Recorder:
    """Observes the passes over an answer's tokens, one after the other, and adds up what they attend to.

    Attributes:
        weighs: see `Observer`.
        vectors: for each pass (P, T + 1) float32, to the prompt's tokens and to memory tokens: the mean over the heads
            that count, or in float16 over those of each layer. What is missing to 1 goes to tokens of the answer.
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
        heads = [
            None if rows is None else list(rows if isinstance(rows, tuple) else rows[0])
            for rows in retained.kept
        ]
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
            rows = call.weights.rows
            paid = rows.sum((0, 1)) if self._counted.head is None else self._counted.summed(rows).sum(0)
            part = self._sum[self._counted.part(call.layer)]
            part[self._tokens - count : self._tokens] += paid[:count].to(self._device)

    def _places(self, layer: int) -> tuple[list[Tensor], Sequence[int]]:
        """For each KV head of a layer where its rows' weights are added, and how many of these rows are frozen."""
        targets, held = self._rows[layer], self._cache.layers[layer]
        assert targets is not None
        frozen = held.frozen if isinstance(held, RaggedLayer) else None
        return targets, [0] * len(targets) if frozen is None else frozen.counts

    def _flat(self, layer: int, weights: RowWeights) -> Tensor:
        """(rows,) the weights of a layer's rows, summed over query heads: frozen ones first, as in `_index_of`."""
        targets, counts = self._places(layer)
        own = self._counted.summed(weights.rows[:, :, : len(targets[0]) - counts[0]]).flatten()
        if weights.frozen is not None:
            own = torch.cat([self._of_frozen(weights.frozen, counts), own])
        return own.to(self._device)

    def _index_of(self, layer: int) -> Tensor:
        targets, counts = self._places(layer)
        parts = [each.split([n, len(each) - n]) for each, n in zip(targets, counts, strict=True)]
        places = torch.cat([each[at] for at in (0, 1) for each in parts])
        return places + self._counted.part(layer) * self._sum.shape[1]

    def _of_frozen(self, weights: Tensor, counts: Sequence[int]) -> Tensor:
        """(G, R) weights of frozen rows -> (R,), those of the query heads that count."""
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
        return rows[:, :, : widths.pop()].sum(1).flatten().to(self._device)

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


def as_arrays(vectors: Sequence[Tensor], counted: CountedHeads) -> tuple[Any, Any]:
    """(n, T + 1) float32 of n vectors, and (n, L, T + 1) float16 where each layer is apart, else None."""
    found = torch.stack(list(vectors)).cpu()
    return found.mean(1, dtype=torch.float32).numpy(), found.numpy() if counted.apart else None
