"""What an answer attends to while it is written: one vector a token, from the weights that its pass computes anyway.

The pass that chooses a token is the one over the token before it; the first token is chosen by the last one of the
prompt. Rows are identified by the prompt token that they belong to. Independent of text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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

WhatAttends = bool | tuple[int | None, int | None]
"""Whether to record what an answer attends to; or of which layer and query head alone, with None for all of them."""


@dataclass(frozen=True)
class CountedHeads:
    """The query heads whose attention counts.

    Attributes:
        layer, head: of one layer, or one query head of each layer, only; None = all.
    """

    layer: int | None = None
    head: int | None = None

    @classmethod
    def asked(cls, lm: LanguageModel, attended: object) -> CountedHeads | None:
        """From the argument `attended` of `judgeq.read`; None where nothing is recorded.

        Raises:
            InputError: no such layer or head.
        """
        if attended is None or isinstance(attended, bool):
            return cls() if attended else None
        sizes = lm.geometry.layers, lm.geometry.heads
        pair = several(attended)
        fits = len(pair) == 2 and all(
            each is None or ((found := whole(each)) is not None and 0 <= found < size)
            for each, size in zip(pair, sizes, strict=True)
        )
        if not fits:
            raise InputError(
                f"attended is {attended!r}: give True, or a layer from 0 to {sizes[0] - 1} and a query head from 0 to "
                f"{sizes[1] - 1}, as in (12, 3), with None for all of them"
            )
        return cls(*(None if each is None else whole(each) for each in pair))

    def number(self, layers: int, heads: int) -> int:
        """How many they are, in a model of so many layers and query heads."""
        return (layers if self.layer is None else 1) * (heads if self.head is None else 1)

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
        total: (T,) float32, to each token of the prompt, summed over the heads that count; they add up to `number`.
    """

    def __init__(self, counted: CountedHeads, tokens: int, device: torch.device) -> None:
        """`tokens`: `T`."""
        self.counted, self.number = counted, 0
        self.total = torch.zeros(tokens, dtype=torch.float32, device=device)

    def add(self, view: LayerView) -> None:
        """One layer of the pass that ends with the prompt."""
        if self.counted.layer not in (None, view.layer):
            return
        keys = view.prompt_rows[0]
        keys = keys if view.window is None else keys[:, :, -view.window :]
        last, rows = view.prompt_queries - 1, keys.shape[2]
        queries = view.queries[:1, :, last : last + 1]
        paid = attention_to_prompt(queries, keys[:1], view.scaling, rows - 1, rows, view.softcap)[0, :, :, 0]
        self.total[-rows:] += self.counted.summed(paid).sum(0).to(self.total)
        self.number += self.counted.number(1, view.queries.shape[1])

    @property
    def mean(self) -> Tensor:
        """(T + 1,) float32: their mean, and 0 for memory tokens."""
        return torch.cat([self.total / max(self.number, 1), self.total.new_zeros(1)])


class Recorder:
    """Observes the passes over an answer's tokens, one after the other, and adds up what they attend to.

    Attributes:
        weighs: see `Observer`.
        vectors: for each pass (T + 1,) float32, to the prompt's tokens and to memory tokens: the mean over the heads
            that count. What is missing to 1 goes to tokens of the answer.
    """

    weighs = True

    def __init__(self, lm: LanguageModel, retained: Retained, tokens: int, counted: CountedHeads) -> None:
        """Before the first pass.

        Args:
            retained: the rows that the passes extend.
            tokens: `T`, of the prompt.
        """
        self._tokens, self._counted, self._device = tokens, counted, lm.device
        self._number = counted.number(lm.geometry.layers, lm.geometry.heads)
        self._cache, self._seen = retained.cache, retained.cache.get_seq_length()
        self._sum = torch.zeros(tokens + 1, dtype=torch.float32, device=self._device)
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
            self._sum[self._tokens - count : self._tokens] += paid[:count].to(self._device)

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
        return torch.cat([each[at] for at in (0, 1) for each in parts])

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
        found = torch.cat([self._sum, self._sum.new_zeros(1)])
        if self._chosen:
            if self._index is None:
                self._index = torch.cat([self._index_of(layer) for layer, _ in self._chosen])
            found.index_add_(0, self._index, self._of_all())
            self._chosen.clear()
        self.vectors.append(found[:-1] / self._number)
        self._seen += 1


def as_rows(vectors: Sequence[Tensor]) -> Any:
    """(n, T + 1) float32 array of so many vectors; copied from their device at once."""
    return torch.stack(list(vectors)).cpu().numpy()
