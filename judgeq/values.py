"""Numbers, texts and sequences of them as callers pass them, interpreted the same way everywhere.

Every kind of integer and number is taken, numpy's and PyTorch's included; a single text is not read as a sequence of
its characters. Knows nothing of what the values mean.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Iterable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from judgeq.errors import InputError

SEEDS = range(-(2**63), 2**64)
"""What fits in 64 bits, with a sign or without."""


def whole(value: object) -> int | None:
    """A whole number as Python's own; None for anything else, True and False included."""
    if _is_switch(value):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def number(value: object) -> int | float | None:
    """A number as Python's own, whole ones as int; None for anything else, texts included."""
    found = whole(value)
    if found is not None or _is_switch(value) or not hasattr(type(value), "__float__"):
        return found
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # such as a tensor of several numbers
        return None


def several(value: Any, *single: type) -> list[Any]:
    """The parts of a sequence or any other iterable; a text, what is of a type of `single`, or a number is one part."""
    if isinstance(value, (str, bytes, *single)) or not isinstance(value, Iterable):
        return [value]
    try:
        return list(value)
    except TypeError:  # a tensor of one number
        return [value]


def texts(name: str, value: object) -> tuple[str, ...]:
    """One text, or several.

    Raises:
        InputError: something that is no text.
    """
    found = tuple(several(value))
    if wrong := [each for each in found if not isinstance(each, str)]:
        raise InputError(f"{name} holds {wrong[0]!r}: give a text, or several in a list")
    return found


def whole_numbers(name: str, value: object) -> tuple[int, ...]:
    """One whole number, or several.

    Raises:
        InputError: something that is none.
    """
    found = []
    for each in several(value):
        if (own := whole(each)) is None:
            raise InputError(f"{name} holds {each!r}: give a whole number, or several in a list")
        found.append(own)
    return tuple(found)


def checked_seed(name: str, value: object) -> int:
    """A seed as an int; `seed64` makes one of it that every generator takes.

    Raises:
        InputError: not a whole number of 64 bits.
    """
    found = whole(value)
    if found is None or found not in SEEDS:
        raise InputError(f"{name} is {value!r}; give a whole number of at most 64 bits, such as 0")
    return found


def seed64(seed: int) -> int:
    """A seed from 0 to 2**64 - 1, which every generator takes: seeds in that range as they are, others wrapped."""
    return seed % 2**64


def settle(settings: Any) -> None:
    """Turn every field of a frozen dataclass into the type that it is declared with.

    Whole numbers, numbers, switches, choices and texts are read, and these or None; other fields are left unchanged.

    Raises:
        InputError: a value that the field's type does not take; the message names both.
    """
    cls: Any = type(settings)
    for field, kind in _kinds(cls).items():
        value = getattr(settings, field)
        try:
            object.__setattr__(settings, field, _settled(kind, value))
        except _Other as other:
            raise InputError(f"{type(settings).__name__}.{field} is {value!r}; {other}") from None


class _Other(Exception):
    """A value of another type; says what to give."""


def _settled(kind: Any, value: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        kinds = [each for each in get_args(kind) if each is not type(None)]
        return value if value is None or len(kinds) > 1 else _settled(kinds[0], value)
    if get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise _Other(f"choose one of {', '.join(map(str, get_args(kind)))}")
    elif kind is int:
        if (found := whole(value)) is None:
            raise _Other("give a whole number")
        return found
    elif kind is float:
        if (real := number(value)) is None or not math.isfinite(real):
            raise _Other("give a number")
        return real
    elif kind is bool:
        if not _is_switch(value):
            raise _Other("give True or False")
        return bool(value)
    elif kind == tuple[str, ...]:
        parts = tuple(several(value))
        if not all(isinstance(each, str) for each in parts):
            raise _Other("give a text, or several in a list")
        return parts
    return value


@functools.cache
def _kinds(cls: Any) -> dict[str, Any]:
    """Types of a dataclass' fields by name."""
    try:
        hints = get_type_hints(cls)
    except NameError:  # a class of the caller's own, with names for type checkers alone
        return {}
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _is_switch(value: object) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
