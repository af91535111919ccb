"""How methods are distinguished in figures: a colour, a dash and a marker each, the same one everywhere on a page.

Every colour has a contrast of at least 3 on light and on dark paper; dash and marker carry the meaning without colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from judgeq.evaluation.report.words import kind_of
from judgeq.methods import METHODS, Look

DASHES = ("solid", "7px,3px", "2px,3px", "10px,3px,2px,3px", "12px,4px", "5px,2px,2px,2px,2px,2px")
SYMBOLS = {
    "circle": "M0-4a4 4 0 1 0 .01 0z",
    "square": "M-3.6-3.6h7.2v7.2h-7.2z",
    "diamond": "M0-5L5 0 0 5-5 0z",
    "triangle-up": "M0-4.6L4.8 3.6h-9.6z",
    "triangle-down": "M0 4.6L4.8-3.6h-9.6z",
    "cross": "M-1.5-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
    "x": "M-4.2-2.2l2-2L0-2l2.2-2.2 2 2L2 0l2.2 2.2-2 2L0 2l-2.2 2.2-2-2L-2 0z",
    "star": "M0-5.2l1.3 3.5 3.7.1-2.9 2.3 1 3.6L0 2.2l-3.1 2.1 1-3.6L-5-1.6l3.7-.1z",
    "pentagon": "M0-4.8L4.6-1.5 2.8 3.9h-5.6L-4.6-1.5z",
}
"""Markers by Plotly's names, each with its outline for a legend, about 10 x 10 around the origin."""

_SPARE = ("#2f8f9d", "#8c7ae6", "#6b8e23", "#a8708e", "#b0693a", "#4f8a5b")


def styles_of(methods: Iterable[str]) -> dict[str, Look]:
    """A style for each method; the same methods get the same styles, regardless of their order.

    A method with options has its name's colour and a dash and marker of its own. A name that is not known takes a
    spare colour that follows from the name, the next free one where two names would share it.
    """
    names = sorted(set(methods), key=lambda method: (kind_of(method) != method, method))
    colors = _colors(sorted({kind_of(name) for name in names}))
    styles: dict[str, Look] = {}
    for name in names:
        own = METHODS[name].look if name in METHODS else None
        styles[name] = own or _free(name, colors[kind_of(name)], set(styles.values()))
    return styles


def _colors(kinds: list[str]) -> dict[str, str]:
    taken: set[str] = set()
    looks = {kind: METHODS[kind].look for kind in kinds if kind in METHODS}
    colors = {kind: look.color for kind, look in looks.items() if look}
    for kind in kinds:
        if kind not in colors:
            first = crc32(kind.encode("utf-8", "replace")) % len(_SPARE)
            turn = [_SPARE[(first + step) % len(_SPARE)] for step in range(len(_SPARE))]
            colors[kind] = next((color for color in turn if color not in taken), turn[0])
            taken.add(colors[kind])
    return colors


def _free(name: str, color: str, taken: set[Look]) -> Look:
    """A dash and a marker that no method of this colour has yet; after some fifty methods they repeat."""
    symbols = list(SYMBOLS)
    first = crc32(name.encode("utf-8", "replace"))
    looks = {(style.dash, style.symbol) for style in taken if style.color == color}
    used = {part for look in looks for part in look}
    tries = [
        Look(color, DASHES[(first + step) % len(DASHES)], symbols[(first + step) % len(symbols)])
        for step in range(len(DASHES) * len(symbols))
    ]
    for style in tries:
        if not {style.dash, style.symbol} & used:
            return style
    return next((style for style in tries if style not in taken), tries[0])
