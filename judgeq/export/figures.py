"""Figures for people: bytes and seconds."""

UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def size(number: int) -> str:
    """Bytes for people, three digits: `5.90 MB`."""
    for unit, factor in UNITS:
        if number >= factor:
            value = number / factor
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
    return f"{number} B"


def duration(seconds: float) -> str:
    """`0.42 s`, `5.3 s`, `1 min 12 s`."""
    if seconds >= 90:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds:.{1 if seconds >= 1 else 2}f} s"
