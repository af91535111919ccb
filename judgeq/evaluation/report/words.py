"""Names of methods, budgets, tasks and figures as plain text; escaping is left to what shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from judgeq.config import Budget
from judgeq.evaluation.report.read import Entry, Interval
from judgeq.methods import title_of

FULL = "full"
NOT_DEPLOYABLE = frozenset({FULL, "oracle"})
"""Methods to compare with: one saves nothing, the other has to know the answer."""

BENCHMARKS = {
    "hit-rate": "Hit rate",
    "ruler": "RULER",
    "longbench": "LongBench",
    "niah": "Needle in a Haystack",
    "facts": "Planted facts",
    "facts-begun": "Planted facts, answer begun from the question",
    "facts-led": "Planted facts, answer begun",
    "keys": "Planted records",
}


def kind_of(method: str) -> str:
    """A method's name without its options."""
    return method.partition(":")[0]


def method_title(method: str) -> str:
    """`judgeq:allocation=adakv:pool=5` is `Judge Q (adakv, pool 5)`."""
    name, _, options = method.partition(":")
    plain = options.replace("allocation=", "").replace(":", ", ").replace("=", " ")
    return f"{title_of(name)} ({plain})" if options else title_of(name)


def benchmark_title(benchmark: str) -> str:
    """`hit-rate/wiki` is `Hit rate, wiki`."""
    name, _, rest = benchmark.partition("/")
    known = name.removesuffix("-unknown")
    parts = (BENCHMARKS.get(known, known), rest, "" if known == name else "question unknown")
    return ", ".join(filter(None, parts))


def task_title(entry: Entry) -> str:
    """What distinguishes a task within its benchmark and length: `niah_single_1`, or `depth 25 %`."""
    if entry.depth is not None:
        return f"depth {entry.depth} %"
    name = entry.task.removesuffix("/first") if entry.question_first else entry.task
    return name.removeprefix(f"{entry.benchmark}/").removesuffix(f"@{entry.length}")


def length_title(length: int | None) -> str:
    """`1,024 tokens`; None is all lengths together."""
    return "all lengths" if length is None else f"{length:,} tokens"


def length_titles(lengths: Iterable[int | None]) -> list[str]:
    """A title for each."""
    return list(map(length_title, lengths))


def budget_title(budget: Budget, per: int | None = None) -> str:
    """`64 rows`, `12.5 %`, or `64 per 1,000` for a share that was requested `per` so many tokens."""
    if isinstance(budget, int):
        return counted(budget, "row")
    return f"{budget * per:,.0f} per {per:,}" if per else f"{100 * budget:.4g} %"


def percent(share: float) -> str:
    """`61.5 %`: one digit always, so that a column of a table lines up."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A signed difference of scores in points: `+31.0`, `−2.0`, `0.0`."""
    value = round(100 * difference, 1)
    return f"{'+' if value > 0 else '−' if value < 0 else ''}{abs(value):.1f}"


def between(interval: Interval | None, *, signed: bool = False) -> str:
    """`80.0 to 100.0`, or with signs; empty without an interval."""
    if interval is None:
        return ""
    low, high = (points(end) if signed else f"{100 * end:.1f}" for end in interval)
    return f"{low} to {high}"


def join(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return "".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(number: int, noun: str) -> str:
    """`1 task`, `11 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
