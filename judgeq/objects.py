"""Short `__repr__`, equality and hashes for objects that hold arrays.

Knows nothing of the objects.
"""

from __future__ import annotations

import dataclasses
import reprlib
from typing import Any

LONGEST = 300
"""Characters of an object."""


class _Brief(reprlib.Repr):
    """Sizes instead of arrays, names instead of models, beginnings and ends of texts."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxtuple, self.maxlist, self.maxdict, self.maxset = 3, 3, 3, 3, 3
        self.maxstring, self.maxother = 50, 50

    def repr_instance(self, x: Any, level: int) -> str:
        if hasattr(x, "shape") and hasattr(x, "dtype") and x.shape != ():
            size = " x ".join(map(str, x.shape))
            return f"<{type(x).__name__} {size} {str(x.dtype).removeprefix('torch.')}>"
        if dataclasses.is_dataclass(x):
            return self.fields(x, level) if level > 1 else f"<{type(x).__name__}>"
        if hasattr(x, "named_parameters") or hasattr(x, "get_vocab"):
            return f"<{type(x).__name__}>"
        return super().repr_instance(x, level)

    def fields(self, x: Any, level: int) -> str:
        """A dataclass as its constructor would be called."""
        shown = (
            f"{field.name}={self.repr1(getattr(x, field.name), level - 1)}"
            for field in dataclasses.fields(x)
            if field.repr
        )
        return f"{type(x).__qualname__}({', '.join(shown)})"


_BRIEF = _Brief()


def brief(self: Any) -> str:
    """A `__repr__` for dataclasses that hold much; put it into the class as `__repr__ = brief`."""
    text = _BRIEF.fields(self, _BRIEF.maxlevel)
    return text if len(text) <= LONGEST else text[: LONGEST - 2] + "…)"


def same(self: Any, other: object) -> bool:
    """An `__eq__` for dataclasses with arrays among their fields; use with `__hash__ = hash_of_texts`."""
    compared = [field.name for field in dataclasses.fields(self) if field.compare]
    if type(other) is not type(self):
        return NotImplemented
    return all(_alike(getattr(self, name), getattr(other, name)) for name in compared)


def hash_of_texts(self: Any) -> int:
    """A `__hash__` for dataclasses with arrays among their fields: of their texts and numbers."""
    values = (getattr(self, field.name) for field in dataclasses.fields(self))
    return hash((type(self), *(value for value in values if isinstance(value, str | int))))


def _alike(ours: Any, theirs: Any) -> bool:
    if ours is theirs:
        return True
    if isinstance(ours, tuple | list) and type(ours) is type(theirs):
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if hasattr(ours, "dtype") and hasattr(theirs, "dtype"):
        return ours.shape == theirs.shape and bool((ours == theirs).all())
    return bool(ours == theirs)
