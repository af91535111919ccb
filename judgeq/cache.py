"""Cache layers: where retained rows live, apart from how many tokens they stand for.

*Seen* is the number of tokens that have passed (the next RoPE position); *rows* is what is stored. Knows nothing of
scores or methods.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable, Iterator

import torch
from torch import Tensor
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from judgeq.causal import CausalRows
from judgeq.errors import ModelError
from judgeq.growing import GrowingLayer
from judgeq.ragged import FrozenRows, RaggedLayer


class RetainedLayer(GrowingLayer):
    """A growing cache layer that starts from chosen rows and keeps *seen* and *rows* apart.

    Passes of several tokens bring their own attention, since transformers' mask fits the rows of one layer only.
    """

    def __init__(self, expected: int = 0) -> None:
        super().__init__(expected)
        self.seen = 0

    def retain(self, keys: Tensor, values: Tensor, seen: int) -> None:
        """Start from rows that were kept out of `seen` tokens.

        Args:
            keys, values: (B, H_kv, rows, D), owned by this layer from now on.
            seen: tokens that have passed, at least `rows`.
        """
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.seen = keys, values, seen

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        new = key_states.shape[-2]
        self.seen += new
        keys, values = super().update(key_states, value_states)
        if new not in (1, keys.shape[-2]):
            keys = keys[:]  # the attribute stays off the stored tensor
            keys.frozen_rows = CausalRows  # type: ignore[attr-defined]
        return keys, values

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        if query_length > 1:
            return query_length, 0  # no mask is needed
        rows = self.keys.shape[-2] if self.is_initialized else 0
        return rows + query_length, self.seen - rows

    def crop(self, tokens_to_remove: int) -> None:
        super().crop(tokens_to_remove)
        self.seen -= abs(tokens_to_remove)

    def reset(self) -> None:
        super().reset()
        self.seen = 0


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

    They are `RetainedLayer`s, or `RaggedLayer`s where heads have budgets of their own. Layers with a sliding window
    keep transformers' own class: they are bounded already.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config=config)
        self.layers: list[DynamicLayer] = [
            layer if layer.is_sliding else RetainedLayer() for layer in self.layers
        ]

    def fill(
        self, layer: int, keys: Tensor, values: Tensor, kept: Tensor | tuple[Tensor, ...] | None, seen: int
    ) -> None:
        """Store one layer's rows.

        Args:
            keys, values: (B, H_kv, K, D), the prompt's rows; of a layer with a sliding window its last ones are enough.
            kept: (B, H_kv, rows) indices below `seen`, or for each KV head (rows,), in a batch of 1; None keeps all
                rows, or the window's.
            seen: tokens of the prompt.
        """
        target = self.layers[layer]
        if target.is_sliding:
            last = slice(-target.sliding_window + 1, None)
            target.update(keys[:, :, last], values[:, :, last])
            target.cumulative_length = seen
        elif isinstance(kept, tuple):
            self.layers[layer] = RaggedLayer(FrozenRows.pick(keys, values, kept), seen)
        elif kept is None:
            target.retain(keys.clone(), values.clone(), seen=seen)
        else:
            target.retain(gather_rows(keys, kept), gather_rows(values, kept), seen=seen)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the key and value storage behind this cache, measured from the tensors.

        Until decoding starts it holds rows and nothing else; then it sets aside room for more, which counts.
        """
        return storage_bytes(self._tensors())

    @property
    def row_bytes(self) -> int:
        """Bytes of the rows alone, without room for more."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors())

    @property
    def rows(self) -> int:
        """Stored rows per KV head, summed over layers; where heads differ their mean, rounded up."""
        sizes = [layer.keys.shape[1:3] for layer in self._filled()]  # (H_kv, rows)
        if not sizes:
            return 0
        stored = sum(heads * rows for heads, rows in sizes) + sum(
            len(frozen.keys) for frozen in self._frozen()
        )
        return -(-stored // sizes[0][0])

    def fork(self) -> RetainedCache:
        """A second continuation of the same rows; the storage is shared, since rows that are held never change."""
        rooms = (layer.room for layer in self.layers if isinstance(layer, GrowingLayer))
        shared = *self._tensors(), *self._frozen(), *rooms
        return copy.deepcopy(self, {id(each): each for each in shared})

    def frozen(self) -> FrozenCache:
        """The same rows as a cache that forward passes read but never extend; shares the storage.

        Raises:
            ModelError: some heads have kept fewer rows.
        """
        if any(self._frozen()):
            raise ModelError(
                "This needs all rows of the prompt, and some heads have kept fewer: keep the full cache"
            )
        rows = ((layer.keys, layer.values) for layer in self.layers)
        sliding = {at for at, layer in enumerate(self.layers) if layer.is_sliding}
        return FrozenCache(rows, self.get_seq_length(), sliding)

    def _tensors(self) -> Iterator[Tensor]:
        holders = (*self._filled(), *self._frozen())
        return (tensor for holder in holders for tensor in (holder.keys, holder.values))

    def _frozen(self) -> Iterator[FrozenRows]:
        return (layer.frozen for layer in self.layers if isinstance(layer, RaggedLayer) and layer.frozen)

    def _filled(self) -> Iterator[DynamicLayer]:
        return (layer for layer in self.layers if layer.is_initialized)


class FrozenCache(DynamicCache):
    """Every layer a `FrozenLayer`: prompt rows that any number of probes may look at.

    Complete ones, but for layers with a sliding window: a probe behind the prompt needs no more than the window there.
    """

    def __init__(
        self, rows: Iterable[tuple[Tensor, Tensor]], seen: int, sliding: Container[int] = ()
    ) -> None:
        """`rows`: keys and values of each layer; `seen`: tokens of the prompt; `sliding`: layers with a window."""
        super().__init__()
        self.layers = []
        for at, (keys, values) in enumerate(rows):
            layer = FrozenLayer(at in sliding)
            layer.retain(keys, values, seen=seen)
            self.layers.append(layer)


def gather_rows(rows: Tensor, kept: Tensor) -> Tensor:
    """Pick rows per KV head: (B, H_kv, K, D) and (B, H_kv, k) -> (B, H_kv, k, D), freshly stored."""
    return rows.gather(2, kept.unsqueeze(-1).expand(-1, -1, -1, rows.shape[-1]))


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the distinct storages behind `tensors`: a view that pins a larger storage counts in full."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
