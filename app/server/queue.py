"""A fair queue for a resource used by one run at a time: first come, first served, with positions that can be queried.

How many may wait is `Limits.waiting`. Knows nothing of the resource.
"""

from __future__ import annotations

import threading

from judgeq.errors import JudgeqError


class Turns:
    """The queue. `join` returns a `Place`: wait until its number is 0, and leave it at the end.

    Args:
        waiting: how many may wait at once.
    """

    def __init__(self, waiting: int) -> None:
        self._most = waiting
        self._line: list[Place] = []
        self._moved = threading.Condition()

    def __len__(self) -> int:
        """Places taken, including the run in progress."""
        with self._moved:
            return len(self._line)

    def join(self) -> Place:
        """A place at the end.

        Raises:
            JudgeqError: too many are waiting already.
        """
        with self._moved:
            waiting = len(self._line) - 1
            if waiting >= self._most:
                raise JudgeqError(f"The queue is full: {waiting} others are waiting. Try again in a few minutes")
            place = Place(self)
            self._line.append(place)
            return place


class Place:
    """A place in the queue."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    @property
    def number(self) -> int:
        """How many are ahead; 0 = it is this one's turn, or it has left."""
        with self._turns._moved:
            return self._turns._line.index(self) if self in self._turns._line else 0

    def wait(self, seconds: float) -> bool:
        """Wait for the turn; False if it has not come in time."""
        line, moved = self._turns._line, self._turns._moved
        with moved:
            return moved.wait_for(lambda: bool(line) and line[0] is self, seconds)

    def leave(self) -> None:
        """Give the place up, whether or not the turn has come; leaving twice is harmless."""
        with self._turns._moved:
            if self in self._turns._line:
                self._turns._line.remove(self)
                self._turns._moved.notify_all()
