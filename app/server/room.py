"""A bound of bytes over things of all visitors: those used least recently give way. Holds none of them itself."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PreallocatedRows(Generic[T]):
    """Remembers what holds memory and when it was last used; what is no longer needed leaves it by itself."""

    def __init__(
        self,
        most_bytes: int,
        nbytes: Callable[[T], int],
        give_way: Callable[[T], None],
        spare_last: bool = False,
    ) -> None:
        """An empty one.

        Args:
            nbytes: what a thing holds now.
            give_way: makes a thing hold less.
            spare_last: what is being used stays, even if it is too large alone.
        """
        self.most_bytes, self.spare_last = most_bytes, spare_last
        self._nbytes, self._give_way = nbytes, give_way
        self._known: list[weakref.ref[T]] = []
        self._lock = threading.Lock()

    @property
    def held(self) -> list[T]:
        """What is still in use, the most recently used one last."""
        return [thing for found in self._known if (thing := found()) is not None]

    def use(self, thing: T) -> None:
        """This one is being used: the others make room for it."""
        with self._lock:
            things = [*(each for each in self.held if each is not thing), thing]
            self._known = [weakref.ref(each) for each in things]
            sizes = [self._nbytes(each) for each in things]
            over = sum(sizes) - self.most_bytes
            for each, size in zip(things[: -1 if self.spare_last else None], sizes, strict=False):
                if over > 0 and size:
                    self._give_way(each)
                    over -= size - self._nbytes(each)
