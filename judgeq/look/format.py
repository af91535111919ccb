"""Text and figures for people. Pure functions from values to plain text; escaping is left to what shows it."""

from __future__ import annotations

_CONTROLS: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n\r"}
_CONTROLS |= {0x7F: "\u2421", 0x2028: "\n", 0x2029: "\n"}
_CONTROLS |= dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
_CONTROLS |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")  # override directions

_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def visible(text: str) -> str:
    """The text with each control character replaced by a visible one, length unchanged.

    That covers NUL, escape sequences, lone surrogates and the marks that override the direction of writing.
    """
    return text.translate(_CONTROLS)


def one_line(text: str) -> str:
    """The text with visible control characters and every run of white space as one space."""
    return " ".join(visible(text).split())


def percent(share: float) -> str:
    """A share for people: `12.4 %`, `61 %`, `below 0.1 %`, with a no-break space."""
    value = 100 * share
    if 0 < value < 0.1:
        return "below 0.1\N{NO-BREAK SPACE}%"
    digits = 0 if value >= 20 or value == round(value) else 1
    return f"{value:.{digits}f}\N{NO-BREAK SPACE}%"


def size(number: int) -> str:
    """Bytes for people, three digits: `5.90 MB`."""
    for unit, factor in _UNITS:
        if number >= factor:
            value = number / factor
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
    return f"{number} B"


def duration(seconds: float) -> str:
    """`0.42 s`, `5.3 s`, `1 min 12 s`, `3 h 40 min`."""
    if seconds >= 7200:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    if seconds >= 90:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds:.{1 if seconds >= 1 else 2}f} s"
