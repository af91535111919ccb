"""A byte limit shared by all visitors: what was used least recently is evicted. Owns none of what it counts."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class MemoryLimit(Generic[T]):
    """Tracks objects that hold memory in the order of their last use, by weak references."""

    def __init__(
        self,
        most_bytes: int,
        nbytes: Callable[[T], int],
        evict: Callable[[T], None],
        spare_last: bool = False,
    ) -> None:
        """An empty one.

        Args:
            nbytes: bytes that an object holds now.
            evict: makes an object hold less.
            spare_last: never evict the object in use, even if it alone exceeds the limit.
        """
        self.most_bytes, self.spare_last = most_bytes, spare_last
        self._nbytes, self._evict = nbytes, evict
        self._known: list[weakref.ref[T]] = []
        self._lock = threading.Lock()

    @property
    def held(self) -> list[T]:
        """The objects that still exist, the most recently used one last."""
        return [thing for found in self._known if (thing := found()) is not None]

    def use(self, thing: T) -> None:
        """Mark an object as used now and evict others, oldest first, until the limit is met."""
        with self._lock:
            things = [*(each for each in self.held if each is not thing), thing]
            self._known = [weakref.ref(each) for each in things]
            sizes = [self._nbytes(each) for each in things]
            over = sum(sizes) - self.most_bytes
            for each, size in zip(things[: -1 if self.spare_last else None], sizes, strict=False):
                if over > 0 and size:
                    self._evict(each)
                    over -= size - self._nbytes(each)
