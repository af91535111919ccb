"""Cache layers that grow into room set aside, where transformers copies all rows for every token.

Knows nothing of what rows stand for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

STEP, SHARE = 32, 8
"""A layer that is full when a token comes gets room for `STEP` rows more, or a `SHARE`th of what it holds where that is
more. Several tokens at once get no more than they need: those are few passes."""


class Room:
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

    def fits(self, keys: Tensor, values: Tensor, more: int) -> bool:
        """Whether `more` rows can be written behind these, which must be all that is written here.

        Tensors that were made in inference mode can only be written there.
        """
        storage = self._storage[0]
        return (
            keys is self.keys
            and values is self.values
            and keys.shape[2] + more <= self.rows
            and (not storage.is_inference() or torch.is_inference_mode_enabled())
        )

    def append(self, keys: Tensor, values: Tensor) -> None:
        """Write rows (B, H_kv, more, D)."""
        filled = self.keys.shape[2]
        for storage, states in zip(self._storage, (keys, values), strict=True):
            storage[:, :, filled : filled + states.shape[2]] = states
        self._show(filled + keys.shape[2])

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
            beam search do, leaves the room: the next rows get a new one.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, expected: int = 0) -> None:
        super().__init__()
        self.expected = expected
        self.room: Room | None = None

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
        if self.room is None or not self.room.fits(self.keys, self.values, more):
            spare = max(STEP, held // SHARE) if more == 1 else 0
            self.room = Room(self.keys, self.values, max(more + spare, self.expected - held))
        self.room.append(key_states, value_states)
        self.keys, self.values = self.room.keys, self.room.values
        return self.keys, self.values

    def reset(self) -> None:
        super().reset()
        self.room = None


def _with_room(states: Tensor, more: int) -> Tensor:
    batch, heads, rows, dim = states.shape
    storage = states.new_empty(batch, heads, rows + more, dim)
    storage[:, :, :rows] = states
    return storage
