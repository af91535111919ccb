"""Cache layers that grow into preallocated memory, where transformers copies all rows for every token.

A `RetainedLayer` starts from chosen rows. Knows nothing of scores or methods.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from judgeq.attention.causal import UnmaskedCausal

Head = tuple[Tensor, Tensor]
"""Keys and values (rows, D) of one KV head."""

MemoryRows = tuple[Tensor, Tensor]
"""Keys and values (B, H_kv, M, D) of the memory tokens that have read a prompt, in one layer."""

_TAKING = threading.Lock()
"""Held while a fork claims rows of a buffer, not while it writes them; global, since caches are copied with buffers."""
STEP, SHARE = 32, 8
"""Spare rows of a full layer that gets one more token: `STEP`, or a `SHARE`th of its rows if that is more. For several
tokens at once it gets exactly the rows that they need: those passes are few."""


class PreallocatedRows:
    """A buffer with spare rows after those in use, written once, from front to back, until it is truncated.

    Views of it are immutable. Forks share the buffer: the first to append keeps it, the others reallocate, since
    the earlier views have to stay valid.

    Attributes:
        keys, values: (B, H_kv, filled, D), views of everything that is written.
    """

    def __init__(self, keys: Tensor, values: Tensor, more: int) -> None:
        """Copy rows, (B, H_kv, rows, D), and preallocate `more`."""
        self._storage = tuple(_with_spare(states, more) for states in (keys, values))
        self.truncate(keys.shape[2])

    @property
    def rows(self) -> int:
        """Its capacity, with the rows that are written."""
        return self._storage[0].shape[2]

    def append(self, existing: tuple[Tensor, Tensor], keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor] | None:
        """Write rows (B, H_kv, more, D); returns all rows, or None where they do not fit.

        Tensors that were made in inference mode can only be written there.

        Args:
            existing: the rows that precede them, which must be everything that is written here.
        """
        storage, filled = self._storage[0], existing[0].shape[2]
        if storage.is_inference() and not torch.is_inference_mode_enabled():
            return None
        with _TAKING:  # forks in two threads may append at once
            if existing[0] is not self.keys or existing[1] is not self.values:
                return None
            if filled + keys.shape[2] > self.rows:
                return None
            self.truncate(filled + keys.shape[2])
            shown = self.keys, self.values
        for target, states in zip(self._storage, (keys, values), strict=True):
            target[:, :, filled : filled + states.shape[2]] = states
        return shown

    def truncate(self, rows: int) -> None:
        """Let the views end after so many rows; later ones will be overwritten, also in older views."""
        self.keys, self.values = (storage[:, :, :rows] for storage in self._storage)


class GrowingLayer(DynamicLayer):
    """A cache layer that copies its rows only when its buffer is full, not for every token.

    Attributes:
        expected: rows that will come, if that is known; they are preallocated at once.
        buffer: the storage of the rows, once the layer has grown. Setting `keys` and `values` to something else, as
            `crop` and beam search do, leaves it: the next rows get a new one. `set_rows` frees it at once.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, expected: int = 0) -> None:
        super().__init__()
        self.expected = expected
        self.buffer: PreallocatedRows | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        stored = self.keys.shape[-2] if self.is_initialized and self.keys.numel() else 0
        if not (stored or self.expected) or key_states.requires_grad:
            self.buffer = None
            return super().update(key_states, value_states)
        if not stored:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        more = key_states.shape[-2]
        existing = self.keys, self.values
        shown = None if self.buffer is None else self.buffer.append(existing, key_states, value_states)
        if shown is None:
            spare = max(STEP, stored // SHARE) if more == 1 else 0
            self.buffer = PreallocatedRows(*existing, max(more + spare, self.expected - stored))
            shown = self.buffer.append((self.buffer.keys, self.buffer.values), key_states, value_states)
            assert shown is not None
        self.keys, self.values = shown
        return shown

    def set_rows(self, keys: Tensor, values: Tensor) -> None:
        """Replace all rows by these, (B, H_kv, rows, D), and free the buffer."""
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.buffer = keys, values, None

    def reset(self) -> None:
        super().reset()
        self.buffer = None


class RetainedLayer(GrowingLayer):
    """A growing cache layer that starts from chosen rows and keeps *seen* and *rows* apart.

    Passes of several tokens bring their own attention, since transformers builds one mask, for the rows of one layer.

    Attributes:
        seen: tokens that have passed.
        kept: rows that were chosen among the first of them.
    """

    def __init__(self, expected: int = 0) -> None:
        super().__init__(expected)
        self.seen = self.kept = 0

    def retain(self, keys: Tensor, values: Tensor, seen: int) -> None:
        """Start from rows that were kept out of `seen` tokens.

        Args:
            keys, values: (B, H_kv, rows, D), owned by this layer from now on.
            seen: tokens that have passed, at least `rows`.
        """
        self.set_rows(keys, values)
        self.seen, self.kept = seen, keys.shape[2]

    def heads(self) -> list[Head]:
        """Rows of each KV head, of one prompt."""
        return list(zip(self.keys[0], self.values[0], strict=True))

    def replace_rows(self, heads: Sequence[Head], seen: int) -> None:
        """Continue with copies of these rows, as many in every head."""
        keys, values = (torch.stack(rows)[None] for rows in zip(*heads, strict=True))
        self.retain(keys, values, seen)

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        new = key_states.shape[-2]
        self.seen += new
        keys, values = super().update(key_states, value_states)
        if new != keys.shape[-2]:
            keys = keys[:]  # the attribute stays off the stored tensor
            keys.own_attention = UnmaskedCausal(self.kept)  # type: ignore[attr-defined]
        return keys, values

    def get_seq_length(self) -> int:
        return self.seen

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Sizes for which no mask is made unless tokens are hidden, see `registry.judged_mask`."""
        rows = self.keys.shape[-2] if self.is_initialized else 0
        return (query_length, 0) if rows == self.seen else (0, self.seen - (rows - self.kept))

    def crop(self, tokens_to_remove: int) -> None:
        super().crop(tokens_to_remove)
        self.seen -= abs(tokens_to_remove)
        self.kept = min(self.kept, self.keys.shape[-2])

    def reset(self) -> None:
        super().reset()
        self.seen = self.kept = 0


def _with_spare(states: Tensor, more: int) -> Tensor:
    batch, heads, rows, dim = states.shape
    storage = states.new_empty(batch, heads, rows + more, dim)
    storage[:, :, :rows] = states
    return storage
