"""From what a person types to the names of tasks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from judgeq.errors import InputError
from judgeq.values import texts


def benchmark_names(text: str, all_names: Sequence[str]) -> tuple[str, ...]:
    """The names in a comma separated text, each once, in its order; `"all"` is every name.

    Raises:
        InputError: no name, or one that is not in `all_names`.
    """
    if text.strip() == "all":
        return tuple(all_names)
    return check_names(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()), all_names)


def check_names(named: str | Iterable[str], all_names: Sequence[str]) -> tuple[str, ...]:
    """One name or several, as a tuple; an `InputError` for none, or one that there is not."""
    names = texts("names", named)
    unknown = [name for name in names if name not in all_names]
    if unknown or not names:
        what = f"There is no task {unknown[0]!r}" if unknown else "No task is named"
        raise InputError(f"{what}: choose all, or one or more of {', '.join(all_names)}")
    return names
