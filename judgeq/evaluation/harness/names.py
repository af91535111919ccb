"""From what a person types to the names of tasks."""

from __future__ import annotations

from collections.abc import Sequence

from judgeq.errors import InputError


def benchmark_names(text: str, all_names: Sequence[str]) -> tuple[str, ...]:
    """The names in a comma separated text, each once, in its order; `"all"` is every name.

    Raises:
        InputError: no name, or one that is not in `all_names`.
    """
    if text.strip() == "all":
        return tuple(all_names)
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    check_names(names, all_names)
    return names


def check_names(names: Sequence[str], all_names: Sequence[str]) -> None:
    """Refuse an empty list and a name that there is not; raises `InputError`."""
    unknown = [name for name in names if name not in all_names]
    if unknown or not names:
        what = f"There is no task {unknown[0]!r}" if unknown else "No task is named"
        raise InputError(f"{what}: choose all, or one or more of {', '.join(all_names)}")
