"""What generators yield and return."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Yielded, Returned = TypeVar("Yielded"), TypeVar("Returned")


def to_the_end(steps: Generator[Yielded, None, Returned]) -> tuple[list[Yielded], Returned]:
    """All that a generator yields, and what it returns."""
    found = []
    while True:
        try:
            found.append(next(steps))
        except StopIteration as done:
            return found, done.value
