"""Caches of retained rows, whose layers count the tokens read separately from the rows.

*Seen* is the number of tokens read (the next RoPE position); *rows* is what is stored. Knows nothing of
scores or methods.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Container, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from judgeq.cache.layers import GrowingLayer, Head, MemoryRows, RetainedLayer
from judgeq.cache.ragged import FrozenRows, RaggedLayer
from judgeq.errors import InputError, ModelError


class FrozenLayer(RetainedLayer):
    """Rows that later tokens may attend to but never extend: each forward starts from the same state.

    All layers hold the same tokens, or the same window of them, so that transformers' mask fits.
    """

    def __init__(self, is_sliding: bool = False) -> None:
        """`is_sliding`: later tokens see only a window, so the rows may be no more than that."""
        super().__init__()
        self.is_sliding = is_sliding

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        rows = self.keys.shape[-2]
        return rows + query_length, self.seen - rows


class RetainedCache(DynamicCache):
    """A transformers cache whose full-attention layers hold chosen rows; plain `generate` continues from it.

    They are `RetainedLayer`s, or `RaggedLayer`s where heads have budgets of their own or rows are quantized.
    Layers with a sliding window keep transformers' own class: they are bounded already.

    Attributes:
        bits: 8 or 4, in which rows are stored; None = not quantized. Rows of later tokens, and those of layers with a
            sliding window, are not rounded.
    """

    def __init__(self, config: PretrainedConfig, bits: int | None = None) -> None:
        super().__init__(config=config)
        self.bits = bits
        self.layers: list[DynamicLayer] = [layer if layer.is_sliding else RetainedLayer() for layer in self.layers]

    def __repr__(self) -> str:
        return f"<RetainedCache of {len(self.layers)} layers, {self.rows:,} rows of {self.get_seq_length():,} tokens>"

    def fill(
        self,
        layer: int,
        keys: Tensor,
        values: Tensor,
        kept: Tensor | tuple[Tensor, ...] | None,
        seen: int,
        memory: MemoryRows | None = None,
    ) -> None:
        """Store one layer's rows.

        Args:
            keys, values: (B, H_kv, K, D), the prompt's rows; of a layer with a sliding window its last ones are enough.
            kept: (B, H_kv, rows) indices below `seen`, or for each KV head (rows,), in a batch of 1; None keeps all
                rows, or the window's.
            seen: tokens of the prompt.
            memory: stored before the kept rows of each head; not where all rows are kept.

        Raises:
            InputError: quantized rows, and more than one prompt.
        """
        target = self.layers[layer]
        if self.bits is not None and not target.is_sliding and not isinstance(kept, tuple):
            kept = _by_head(keys, kept)
        if target.is_sliding:
            last = slice(-target.sliding_window + 1, None)
            target.update(keys[:, :, last], values[:, :, last])
            target.cumulative_length = seen
        elif isinstance(kept, tuple):
            rows = FrozenRows.pick(keys, values, kept, self.bits, memory)
            self.layers[layer] = RaggedLayer(rows, seen)
        elif kept is None:
            target.retain(keys.clone(), values.clone(), seen=seen)
        else:
            chosen = [gather_rows(states, kept) for states in (keys, values)]
            if memory is not None:
                chosen = [torch.cat(both, dim=2) for both in zip(memory, chosen, strict=True)]
            target.retain(*chosen, seen=seen)

    def fill_heads(self, layer: int, heads: Sequence[Head], seen: int, memory: MemoryRows | None = None) -> None:
        """Store copies of the kept rows of each KV head, in a batch of 1; see `fill`."""
        self.layers[layer] = RaggedLayer(FrozenRows.of_heads(heads, self.bits, memory), seen)

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """One mask serves all layers without a window: those with chosen rows decide what it must not hide."""
        if self.layers[layer_idx].is_sliding:
            return super().get_mask_sizes(query_length, layer_idx)
        sizes = (layer.get_mask_sizes(query_length) for layer in self.layers if not layer.is_sliding)
        return max(sizes, key=lambda size: size[1])

    @property
    def kv_bytes(self) -> int:
        """Bytes of the key and value storages of this cache, measured from the tensors.

        From the first decoded token on they include preallocated rows.
        """
        return storage_bytes(self._tensors())

    @property
    def row_bytes(self) -> int:
        """Bytes of the rows alone, without preallocated ones."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())

    @property
    def rows(self) -> int:
        """Stored rows per KV head, summed over layers; where heads differ their mean, rounded up."""
        heads = next((layer.keys.shape[1] for layer in self._filled()), 1)
        return -(-sum(map(stored_rows, self._filled())) // heads)

    @contextlib.contextmanager
    def passing(self, tokens: int) -> Iterator[None]:
        """Within, one pass over `tokens` tokens, whose rows are removed again, also if the pass fails."""
        before = [layer.get_seq_length() for layer in self.layers]
        sliding = [layer for layer in self.layers if layer.is_sliding]
        for layer in sliding:
            layer.activate_past_recording()
        try:
            yield
        finally:
            for layer, seen in zip(self.layers, before, strict=True):
                if layer.get_seq_length() > seen:
                    layer.crop(-tokens)
            for layer in sliding:
                layer.record_past = False

    def fork(self) -> RetainedCache:
        """A second continuation of the same rows; the storage is shared, since stored rows never change."""
        buffers = (layer.buffer for layer in self.layers if isinstance(layer, GrowingLayer))
        shared = *self._tensors(), *self._frozen(), *buffers
        return copy.deepcopy(self, {id(each): each for each in shared})

    def frozen(self) -> FrozenCache:
        """The same rows as a cache that forward passes read but never extend; shares the storage.

        Raises:
            ModelError: some heads have kept fewer rows.
        """
        if any(self._frozen()):
            raise ModelError(
                "This needs all rows of the prompt, not quantized, and some heads have kept fewer, or quantized ones: "
                "keep the full cache"
            )
        rows = ((layer.keys, layer.values) for layer in self.layers)
        sliding = {at for at, layer in enumerate(self.layers) if layer.is_sliding}
        return FrozenCache(rows, self.get_seq_length(), sliding)

    def _tensors(self) -> Iterator[Tensor]:
        for layer in self._filled():
            yield from (layer.keys, layer.values)
        for frozen in self._frozen():
            yield from frozen.tensors()

    def _frozen(self) -> Iterator[FrozenRows]:
        return (layer.frozen for layer in self.layers if isinstance(layer, RaggedLayer) and layer.frozen)

    def _filled(self) -> Iterator[DynamicLayer]:
        return (layer for layer in self.layers if layer.is_initialized)


class FrozenCache(DynamicCache):
    """Prompt rows that any number of second passes may attend to: every layer is a `FrozenLayer`.

    Complete ones, except in layers with a sliding window: tokens after the prompt need no more than the window there.
    """

    def __init__(self, rows: Iterable[tuple[Tensor, Tensor]], seen: int, sliding: Container[int] = ()) -> None:
        """`rows`: keys and values of each layer; `seen`: tokens of the prompt; `sliding`: layers with a window."""
        super().__init__()
        self.layers = []
        for at, (keys, values) in enumerate(rows):
            layer = FrozenLayer(at in sliding)
            layer.retain(keys, values, seen=seen)
            self.layers.append(layer)


class UnstoredCache(DynamicCache):
    """For passes that follow no rows and leave none.

    Without any cache transformers looks at the positions, whether texts share the pass, and a GPU is waited for.
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        return key_states, value_states


def _by_head(keys: Tensor, kept: Tensor | None) -> tuple[Tensor, ...]:
    """The same choice for each KV head; see `RetainedCache.fill`."""
    batch, heads, rows = keys.shape[:3]
    if batch != 1:
        raise InputError(
            f"Quantized rows are stored for one prompt at a time and this batch has {batch}: prefill them one by one"
        )
    return (torch.arange(rows, device=keys.device),) * heads if kept is None else tuple(kept[0])


def stored_rows(layer: DynamicLayer) -> int:
    """Rows that all KV heads of a layer store together."""
    heads, rows = layer.keys.shape[1:3]
    frozen = layer.frozen if isinstance(layer, RaggedLayer) else None
    return heads * rows + (0 if frozen is None else sum(frozen.counts))


def gather_rows(rows: Tensor, kept: Tensor) -> Tensor:
    """Pick rows per KV head: (B, H_kv, K, D) and (B, H_kv, k) -> (B, H_kv, k, D), freshly stored."""
    return rows.gather(2, kept.unsqueeze(-1).expand(-1, -1, -1, rows.shape[-1]))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages of `tensors`: a view of a larger storage counts in full."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
