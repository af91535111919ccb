"""Prefix cache: all K/V rows of the tokens read so far, preallocated so that later passes can extend them.

Forks, one for each question, share them. Reads a prompt's beginning chunk by chunk; which rows are kept in the end is
decided elsewhere. Knows nothing of methods or budgets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from judgeq.attention.call import AttentionCall
from judgeq.cache.layers import PreallocatedRows, RetainedLayer
from judgeq.cache.retained import storage_bytes
from judgeq.methods.scoring import accumulated_attention
from judgeq.models.language_model import LanguageModel

LayerCallback = Callable[[int, int], None]
"""Called as `(layers done, layers)`, counted in every chunk; raising from it abandons the pass and leaves the model
untouched."""


class Progress:
    """Counts layers for a callback, over all passes that read one prompt."""

    def __init__(self, on_layer: LayerCallback | None, layers: int) -> None:
        self.on_layer, self.layers, self.done = on_layer, layers, 0

    def step(self) -> None:
        """One more layer is done."""
        self.done += 1
        if self.on_layer is not None:
            self.on_layer(self.done, self.layers)


class PrefixLayer(RetainedLayer):
    """Complete rows with a buffer that forks use in turn: nothing is copied.

    Attributes:
        attention: (B, H_kv, G, seen) float32, attention that each row got from all queries so far, summed over them;
            None where it was not requested.
    """

    def __init__(self, expected: int) -> None:
        super().__init__(expected)
        self.attention: Tensor | None = None

    def reserve(self, rows: int) -> None:
        """Preallocate so many rows in all; copies the stored ones only if the buffer is too small."""
        if self.buffer is None or self.buffer.rows < rows:
            self.expected = rows
            self.buffer = PreallocatedRows(self.keys, self.values, rows - self.seen)
            self.keys, self.values = self.buffer.keys, self.buffer.values

    def add_attention(self, added: Tensor) -> None:
        """Add (B, H_kv, G, seen), the attention of the tokens that were read last."""
        if self.attention is not None:
            added = added + F.pad(self.attention, (0, added.shape[-1] - self.attention.shape[-1]))
        self.attention = added

    def fork(self) -> PrefixLayer:
        """The same rows to extend; rows that another fork has added to them will be overwritten."""
        fork = copy.copy(self)
        if fork.buffer is not None:
            fork.buffer.truncate(self.seen)
            fork.keys, fork.values = fork.buffer.keys, fork.buffer.values
        return fork

    def copy_first(self, tokens: int) -> PrefixLayer:
        """A copy of the first rows: extending them in place would overwrite the others."""
        layer = PrefixLayer(self.expected)
        layer.update(self.keys[:, :, :tokens], self.values[:, :, :tokens])
        return layer

    def reset(self) -> None:
        super().reset()
        self.attention = None


class PrefixCache(DynamicCache):
    """Complete rows of the tokens that have been read; layers with a sliding window store their window.

    Attributes:
        ids: (B, seen) int64 on the CPU, those tokens.
        shared: this is a fork and its rows belong to another cache too.
    """

    def __init__(self, config: PretrainedConfig, batch: int = 1, expected: int = 0) -> None:
        """`expected`: rows that will come, if that is known."""
        super().__init__(config=config)
        self.layers: list[DynamicLayer] = [
            layer if layer.is_sliding else PrefixLayer(expected) for layer in self.layers
        ]
        self.ids = torch.empty(batch, 0, dtype=torch.int64)
        self.shared = False

    def __repr__(self) -> str:
        return f"<PrefixCache of {len(self.layers)} layers, {self.rows:,} rows of {self.seen:,} tokens>"

    @property
    def seen(self) -> int:
        """Tokens that have been read."""
        return self.ids.shape[1]

    @property
    def rows(self) -> int:
        """Rows per KV head, summed over layers."""
        return sum(layer.keys.shape[2] for layer in self.layers if layer.is_initialized)

    @property
    def nbytes(self) -> int:
        """Bytes of everything that is stored, preallocated rows included, measured from the tensors."""
        return storage_bytes(self.tensors())

    @property
    def has_attention_sums(self) -> bool:
        """Whether every layer that can be evicted has `PrefixLayer.attention`."""
        return bool(self.seen) and all(layer.attention is not None for layer in self._complete())

    def attention_of(self, layer: int) -> Tensor | None:
        """`PrefixLayer.attention` of a layer."""
        return getattr(self.layers[layer], "attention", None)

    def drop_layer(self, layer: int) -> int:
        """Free the rows of a layer, unless they are shared; returns how many the others store."""
        others = self.rows - self.layers[layer].keys.shape[2]
        if not self.shared:
            self.layers[layer].reset()
        return others

    def tensors(self) -> Iterator[Tensor]:
        """Everything that is stored."""
        for layer in self.layers:
            if layer.is_initialized:
                yield from (layer.keys, layer.values)
        yield from (layer.attention for layer in self._complete() if layer.attention is not None)

    def reserve(self, rows: int) -> None:
        """Preallocate so many rows in all, in every layer, see `PrefixLayer.reserve`."""
        for layer in self._complete() if self.seen else ():
            layer.reserve(rows)

    def fork(self, tokens: int | None = None) -> PrefixCache:
        """The same rows to extend; or a copy of the first `tokens`, which layers with a sliding window do not allow.

        Forks share the buffer, in turn, not at once: what one has read is lost when another reads.
        """
        fork = copy.copy(self)
        if tokens is None or tokens == self.seen:
            fork.layers = [
                layer.fork() if isinstance(layer, PrefixLayer) else copy.copy(layer) for layer in self.layers
            ]
            fork.shared = True
        else:
            fork.layers = [layer.copy_first(tokens) for layer in self._complete()]
            fork.ids = self.ids[:, :tokens]
        return fork

    def match_prefix(self, ids: Tensor, max_tokens: int, need_attention_sums: bool) -> PrefixCache | None:
        """A fork with the longest common prefix of these rows' tokens and a prompt, if that is half of them or more.

        Args:
            ids: (B, T) int64, the prompt.
            max_tokens: longest prefix to return.
            need_attention_sums: the prefix must have `PrefixLayer.attention`.

        Returns:
            None where the prompt must be read from its beginning.
        """
        shorter = min(self.seen, ids.shape[1])
        same = (self.ids[:, :shorter] == ids[:, :shorter].cpu()).all(0)
        tokens = min(int(same.cumprod(0).sum()), max_tokens)
        rewinds = tokens < self.seen
        if not tokens or 2 * tokens < self.seen or (need_attention_sums and not self.has_attention_sums):
            return None
        if rewinds and (need_attention_sums or any(self.is_sliding)):
            return None
        return self.fork(tokens)

    @torch.inference_mode()
    def read(
        self, lm: LanguageModel, pieces: Sequence[Tensor], progress: Progress, *, attention_sums: bool = False
    ) -> None:
        """Read more tokens, a pass for each piece.

        Args:
            pieces: (B, N) int64 each, the tokens that follow.
            progress: counts every layer of every piece.
            attention_sums: add up the attention that rows get; only for caches that did so from their beginning.
        """
        observer = _Reader(self, progress, attention_sums)
        for ids in pieces:
            lm.model(input_ids=ids.to(lm.device), cache=self, use_cache=True, logits_to_keep=1, observer=observer)
            self.ids = torch.cat([self.ids, ids.cpu()], dim=1)
            for layer in self.layers:
                if layer.is_sliding:  # else the view of its window keeps the rows of the whole pass alive
                    layer.keys, layer.values = layer.keys.clone(), layer.values.clone()

    def _complete(self) -> list[PrefixLayer]:
        return [layer for layer in self.layers if isinstance(layer, PrefixLayer)]


class _Reader:
    """The observer of a pass that only adds rows."""

    def __init__(self, cache: PrefixCache, progress: Progress, attention_sums: bool) -> None:
        self.cache, self.progress, self.attention_sums = cache, progress, attention_sums

    def observe(self, call: AttentionCall) -> None:
        if self.attention_sums and call.window is None:
            sums = accumulated_attention(call.queries, call.keys, call.scaling, softcap=call.softcap)
            self.cache.layers[call.layer].add_attention(sums)
        self.progress.step()


def pass_sizes(tokens: int, chunk: int | None, last: int) -> list[int]:
    """How many tokens each pass over a prompt reads.

    Args:
        tokens: to be read, at least 1.
        chunk: most tokens of a pass; None reads all in one.
        last: least tokens of the last pass, which may be more than `chunk` for that.
    """
    final = tokens if chunk is None else min(tokens, max(chunk, last))
    early = tokens - final
    return [min(chunk or early, early - at) for at in range(0, early, chunk or 1)] + [final]
