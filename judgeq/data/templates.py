"""Words and sentences that examples are made of, read from `templates.toml`, and patterns that draw from them."""

from __future__ import annotations

import random
import string
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEMPLATES: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
WORDS: dict[str, list[str]] = TEMPLATES["words"]

Draw = Callable[[random.Random], str]


ALPHABETS = {"digits": string.digits, "hex": "0123456789abcdef", "capitals": string.ascii_uppercase}


def characters(alphabet: str, shortest: int, longest: int) -> Draw:
    """So many characters of an alphabet."""
    return lambda rng: "".join(rng.choices(alphabet, k=rng.randint(shortest, longest)))


def digits(shortest: int, longest: int) -> Draw:
    """A number of so many digits, zeros in front included."""
    return characters(string.digits, shortest, longest)


def label(rng: random.Random) -> str:
    """Such as `KT-407` or `M83Q`."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=2))
    return rng.choice(("{0}-{1}", "{0}{1}", "{1}{0}")).format(letters, rng.randint(10, 999))


def pattern(text: str) -> Draw:
    """A function that fills in a pattern; `templates.toml` says what stands in braces."""
    parts = [(before, _field(name, bounds)) for before, name, bounds, _ in string.Formatter().parse(text)]
    return lambda rng: "".join(before + field(rng) for before, field in parts)


def _field(name: str | None, bounds: str | None) -> Draw:
    if name is None:
        return lambda rng: ""
    if name in WORDS:
        return lambda rng: rng.choice(WORDS[name])
    if not bounds:
        return {"label": label, "person": person, "code_name": code_name}[name]
    low, high = bounds.split("-")
    if name in ALPHABETS:
        return characters(ALPHABETS[name], int(low), int(high))
    return lambda rng: f"{rng.randint(int(low), int(high)):0{len(low)}}"


person = pattern("{first} {last}")
code_name = pattern("{adjective} {noun}")
