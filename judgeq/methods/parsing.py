"""Methods as a person types them: `judgeq`, or `judgeq:group=max:pool=7` with options of it or of its selection."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import replace
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.methods import Method, method_named
from judgeq.values import texts


def method_from_text(text: str, **defaults: Any) -> Method:
    """A method with the options of its text.

    Args:
        text: a registered name, then `:option=value` any number of times.
        defaults: options for what the text leaves open; those that do nothing for the method are left out.

    Raises:
        InputError: an unknown method or option, or a value that the option does not take.
    """
    name, *parts = (part.strip() for part in text.split(":"))
    method = method_named(name)
    kinds = _kinds(method)
    options: dict[str, Any] = {}
    for part in parts:
        option, _, value = part.partition("=")
        if option not in kinds:
            raise InputError(f"The method {name!r} has no option {option!r}; it has {', '.join(sorted(kinds))}")
        if option in options:
            raise InputError(f"The method text {text!r} gives {option!r} twice: give it once")
        options[option] = _read(kinds[option], value, part)
    options = {option: value for option, value in defaults.items() if option not in method.idle} | options
    own = {option: value for option, value in options.items() if option not in _SELECTION}
    chosen = {option: value for option, value in options.items() if option in _SELECTION}
    selection = replace(method.selection, **chosen)
    for option, used, where in (
        ("floor", selection.adapts, "adakv"),
        ("beta", selection.is_pyramid, "pyramid"),
    ):
        if option in chosen and not used:
            raise InputError(
                f"{option!r} does nothing in {text!r}, whose allocation is {selection.allocation}: leave it out, or "
                f"choose allocation={where}"
            )
    return replace(method, selection=selection, **own)


def methods_from_text(text: str | Iterable[str], **defaults: Any) -> dict[str, Method]:
    """Several, separated by commas or in a list, by their texts; see `method_from_text`."""
    names = [name.strip() for part in texts("methods", text) for name in part.split(",")]
    return {name: method_from_text(name, **defaults) for name in names}


_SELECTION = get_type_hints(Selection)
_SWITCH = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def _kinds(method: Method) -> dict[str, Any]:
    """Types of the options by name."""
    hints = get_type_hints(type(method))
    own = {field.name: hints[field.name] for field in dataclasses.fields(method) if field.name != "selection"}
    return {**own, **_SELECTION}


def _read(kind: Any, value: str, part: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise InputError(f"{part!r} is not a choice: give one of {', '.join(get_args(kind))}")
        return value
    if kind is bool:
        if value.lower() not in _SWITCH:
            raise InputError(f"{part!r} is no switch: give one of {', '.join(_SWITCH)}")
        return _SWITCH[value.lower()]
    readers = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for reader in readers:
        try:
            return reader(value)
        except (TypeError, ValueError):
            continue
    try:
        float(value)
    except ValueError:
        raise InputError(f"{part!r} gives no number: write one after the equals sign") from None
    raise InputError(f"{part!r} gives no whole number: write one after the equals sign")
