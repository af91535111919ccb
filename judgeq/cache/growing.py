"""Cache layers that grow into room set aside, where transformers copies all rows for every token.

Knows nothing of what rows stand for.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

_TAKING = threading.Lock()
"""Held while a fork takes room, not while it writes there; of the module, for caches are copied with their rooms."""
STEP, SHARE = 32, 8
"""A layer that is full when a token comes gets room for `STEP` rows more, or a `SHARE`th of what it holds where that is
more. Several tokens at once get no more than they need: those are few passes."""


class PreallocatedRows:
    """Storage with room behind its rows, which is written once, from front to back, unless someone takes rows back.

    So whoever looks at rows never sees them change. Forks share a room: who goes on first takes it, for then `keys` is
    no longer what the others hold.

    Attributes:
        keys, values: (B, H_kv, filled, D), views of the storage, all that is written.
    """

    def __init__(self, keys: Tensor, values: Tensor, more: int) -> None:
        """Copy rows, (B, H_kv, rows, D), and set aside room for `more`."""
        self._storage = tuple(_with_room(states, more) for states in (keys, values))
        self._show(keys.shape[2])

    @property
    def rows(self) -> int:
        """How many it is made for, those that are written included."""
        return self._storage[0].shape[2]

    def append(
        self, behind: tuple[Tensor, Tensor], keys: Tensor, values: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """Write rows (B, H_kv, more, D); returns all rows, or None where they do not fit.

        Tensors that were made in inference mode can only be written there.

        Args:
            behind: the rows that they follow, which must be all that is written here.
        """
        storage, filled = self._storage[0], behind[0].shape[2]
        if storage.is_inference() and not torch.is_inference_mode_enabled():
            return None
        with _TAKING:  # forks in two threads may go on at once
            if behind[0] is not self.keys or behind[1] is not self.values:
                return None
            if filled + keys.shape[2] > self.rows:
                return None
            self._show(filled + keys.shape[2])
            shown = self.keys, self.values
        for target, states in zip(self._storage, (keys, values), strict=True):
            target[:, :, filled : filled + states.shape[2]] = states
        return shown

    def back_to(self, rows: int) -> None:
        """Take back what is written behind the first rows: whoever still holds it will see other rows there."""
        self._show(rows)

    def _show(self, filled: int) -> None:
        self.keys, self.values = (storage[:, :, :filled] for storage in self._storage)


class GrowingLayer(DynamicLayer):
    """A cache layer that copies its rows now and then, not for every token.

    Attributes:
        expected: rows that will come, if that is known; room is set aside for them at once.
        room: where the rows lie, once it has grown. Whoever sets `keys` and `values` to something else, as `crop` and
            beam search do, leaves the room: the next rows get a new one. `hold_only` gives its storage back at once.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, expected: int = 0) -> None:
        super().__init__()
        self.expected = expected
        self.room: PreallocatedRows | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        held = self.keys.shape[-2] if self.is_initialized and self.keys.numel() else 0
        if not (held or self.expected) or key_states.requires_grad:
            self.room = None
            return super().update(key_states, value_states)
        if not held:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        more = key_states.shape[-2]
        behind = self.keys, self.values
        shown = None if self.room is None else self.room.append(behind, key_states, value_states)
        if shown is None:
            spare = max(STEP, held // SHARE) if more == 1 else 0
            self.room = PreallocatedRows(*behind, max(more + spare, self.expected - held))
            shown = self.room.append((self.room.keys, self.room.values), key_states, value_states)
            assert shown is not None
        self.keys, self.values = shown
        return shown

    def hold_only(self, keys: Tensor, values: Tensor) -> None:
        """Go on from these rows, (B, H_kv, rows, D), and let go of all that were held, and of the room for more."""
        self.lazy_initialization(keys, values)
        self.keys, self.values, self.room = keys, values, None

    def reset(self) -> None:
        super().reset()
        self.room = None


def _with_room(states: Tensor, more: int) -> Tensor:
    batch, heads, rows, dim = states.shape
    storage = states.new_empty(batch, heads, rows + more, dim)
    storage[:, :, :rows] = states
    return storage
