"""Rows of a file that belong side by side, and what follows from them: averages, leads, closed gaps, moved questions.

Figures of different files are never mixed: they may have been measured with other settings.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace

from judgeq.config import Budget
from judgeq.evaluation.report.read import AVERAGE, HIT_RATE, Difference, ResultFile, Row
from judgeq.evaluation.report.words import BASELINE, FULL, NOT_DEPLOYABLE, benchmark_title, kind_of


@dataclass(frozen=True)
class Block:
    """The rows of one benchmark in one file, with the question in one place.

    Attributes:
        file: where they are from.
        benchmark: its name; a hit rate's name has the texts in it.
        question_first: the question stands before the document.
        rows: tasks and averages, no parts of tasks.
        named: the file's name belongs to the title: other files measured the same benchmark.
    """

    file: ResultFile
    benchmark: str
    question_first: bool
    rows: tuple[Row, ...]
    named: bool = False

    @property
    def title(self) -> str:
        """What it is called."""
        where = ", question first" if self.question_first else ""
        return benchmark_title(self.benchmark) + where + (f" ({self.file.name})" if self.named else "")

    @property
    def is_hit_rate(self) -> bool:
        """Whether kept rows are compared, not answers."""
        return any(row.metric == HIT_RATE for row in self.rows)

    @property
    def full(self) -> str | None:
        """The full cache's method, if it was measured."""
        return next((row.method for row in self.rows if kind_of(row.method) == FULL), None)

    @property
    def methods(self) -> list[str]:
        """The others, in the file's order; those that cannot be deployed last."""
        found = dict.fromkeys(row.method for row in self.rows if kind_of(row.method) != FULL)
        return sorted(found, key=lambda method: not deployable(method))

    @property
    def budgets(self) -> list[Budget]:
        """Budgets of the methods that evict, rows before shares, small before large; the whole prompt if none does."""
        found = {row.budget for row in self.rows if kind_of(row.method) != FULL} or {1.0}
        return sorted(found, key=lambda budget: (isinstance(budget, float), budget))

    @property
    def lengths(self) -> list[int]:
        """Lengths of prompts, where the benchmark has some."""
        return sorted({row.length for row in self.rows if row.length is not None})

    @property
    def scopes(self) -> list[int | None]:
        """What averages are given for: all lengths, where there are several, then each."""
        return [None, *self.lengths] if len(self.lengths) != 1 else list(self.lengths)

    @property
    def table_lengths(self) -> list[int | None]:
        """What tables of tasks are given for: each length, or once for tasks that have none."""
        return list(self.lengths) if all(row.length for row in self.tasks()) else [None]

    @property
    def depths(self) -> list[int]:
        """Depths of a needle, from the start of the document to its end."""
        return sorted({row.depth for row in self.rows if row.depth is not None})

    @property
    def per(self) -> int | None:
        """Tokens that a share of the budget was asked for as rows of, if it was."""
        per = self.file.settings.get("per")
        return per if isinstance(per, int) and per > 0 else None

    def tasks(self, length: int | None = None) -> list[Row]:
        """One row, of any method, for each task; of one length, or of all."""
        found = {(row.task, row.metric): row for row in self._singles(length)}
        return list(found.values())

    def score(self, method: str, budget: Budget, task: Row) -> Row | None:
        """A method's row for a task."""
        return next((row for row in self._of(method, budget) if _same_task(row, task)), None)

    def average(self, method: str, budget: Budget, length: int | None = None) -> Row | None:
        """The file's average over tasks, of one length or of all; computed where the file has none.

        None for a method that has not done all tasks: an average over fewer would compare unlike things.
        """
        of_length = [row for row in self._of(method, budget) if length is None or row.length == length]
        spans = length if length is not None or len(self.lengths) != 1 else self.lengths[0]
        said = [row for row in of_length if row.metric == AVERAGE and row.length == spans]
        singles = [row for row in of_length if row.metric != AVERAGE]
        if said:
            return said[0]
        if not singles or len(singles) < len(self.tasks(length)):
            return None
        if len(singles) == 1:
            return singles[0]
        score = sum(row.score for row in singles) / len(singles)
        return replace(
            singles[0],
            task=self.benchmark,
            metric=AVERAGE,
            score=score,
            length=length,
            depth=None,
            n=sum(row.n for row in singles),
            tasks=len(singles),
            interval=None,
            per_layer=(),
        )

    def full_average(self, length: int | None = None) -> Row | None:
        """The full cache's average."""
        return None if self.full is None else self.average(self.full, 1.0, length)

    def best(self, budget: Budget, length: int | None = None) -> list[str]:
        """The deployable methods with the highest average; several where they tie."""
        averages = {
            method: row.score
            for method in self.methods
            if deployable(method) and (row := self.average(method, budget, length))
        }
        return best_of(averages)

    def lead(self, method: str, budget: Budget, length: int | None = None) -> Difference | None:
        """What a method gains over SnapKV on average, with the file's interval where it has one."""
        ours, theirs = (self.average(name, budget, length) for name in (method, BASELINE))
        if ours is None or theirs is None or method == BASELINE:
            return None
        said = (
            entry
            for entry in self.file.differences
            if (entry.method, entry.against, entry.budget) == (method, BASELINE, budget)
            and entry.question_first == self.question_first
            and _same_task(entry, ours)
        )
        computed = Difference(
            **{name: getattr(ours, name) for name in _SHARED},
            interval=None,
            difference=ours.score - theirs.score,
            against=BASELINE,
        )
        return next(said, computed)

    def gap_closed(self, method: str, budget: Budget, length: int | None = None) -> float | None:
        """Share of the way from SnapKV to the full cache; None where there is no such way."""
        ours, low = (self.average(name, budget, length) for name in (method, BASELINE))
        high = self.full_average(length)
        if ours is None or low is None or high is None or high.score <= low.score:
            return None
        return (ours.score - low.score) / (high.score - low.score)

    def _of(self, method: str, budget: Budget) -> list[Row]:
        """Rows of a method; the full cache has no budget."""
        whole = kind_of(method) == FULL
        return [row for row in self.rows if row.method == method and (whole or row.budget == budget)]

    def _singles(self, length: int | None) -> list[Row]:
        return [
            row for row in self.rows if row.metric != AVERAGE and (length is None or row.length == length)
        ]


_SHARED = ("method", "budget", "task", "metric", "benchmark", "length", "depth", "question_first", "n")


def deployable(method: str) -> bool:
    """Whether a method could be used: it evicts, and does not need to know the answer."""
    return kind_of(method) not in NOT_DEPLOYABLE


def best_of(scores: dict[str, float]) -> list[str]:
    """The names with the highest score, as exact as files are."""
    most = max(scores.values(), default=0.0)
    return [name for name, score in scores.items() if round(score, 4) == round(most, 4)]


def blocks_of(file: ResultFile, named: Container[str] = ()) -> list[Block]:
    """The blocks of a file in the order of its rows; the question at the end before the question first.

    Args:
        named: benchmarks whose titles need the file's name.
    """
    grouped: dict[tuple[str, bool], list[Row]] = {}
    for row in file.rows:
        if not row.part:
            grouped.setdefault((row.benchmark, row.question_first), []).append(row)
    order = list(dict.fromkeys(benchmark for benchmark, _ in grouped))
    keys = sorted(grouped, key=lambda key: (order.index(key[0]), key[1]))
    return [Block(file, *key, tuple(grouped[key]), key[0] in named) for key in keys]


@dataclass(frozen=True)
class Move:
    """What moving the question to the front does to a method's average.

    Attributes:
        last: score with the question at the end.
        first: score with the question before the document.
        interval: of `first - last`, where the file has one.
        tasks: that were measured in both places.
    """

    last: float
    first: float
    interval: tuple[float, float] | None
    tasks: int

    @property
    def change(self) -> float:
        """Below zero where the method loses."""
        return self.first - self.last


def moves_of(file: ResultFile, benchmark: str) -> dict[tuple[str, Budget], Move]:
    """For each method and budget, over the tasks that were asked with the question in both places."""
    rows = [row for row in file.rows if row.benchmark == benchmark and row.metric != AVERAGE]
    parts = [row for row in rows if row.part]
    sides: dict[tuple[str, Budget], dict[tuple[str, str], dict[str, Row]]] = {}
    for row in parts or rows:
        side = row.part or ("first" if row.question_first else "last")
        place = (row.task.removesuffix(f"/{side}"), row.metric)
        sides.setdefault((row.method, row.budget), {}).setdefault(place, {})[side] = row
    moves = {}
    for (method, budget), places in sides.items():
        pairs = [(place["last"], place["first"]) for place in places.values() if len(place) == 2]
        if pairs:
            last, first = (sum(row.score for row in side) / len(pairs) for side in zip(*pairs, strict=True))
            moves[method, budget] = Move(last, first, _moved_interval(file, pairs), len(pairs))
    return moves


def _moved_interval(file: ResultFile, pairs: Sequence[tuple[Row, Row]]) -> tuple[float, float] | None:
    """The file's own interval of the same comparison."""
    one = pairs[0][0]
    lengths = {last.length for last, _ in pairs}
    for entry in file.moved:
        if (entry.method, entry.budget, entry.benchmark) != (one.method, one.budget, one.benchmark):
            continue
        spans = entry.metric == AVERAGE and (entry.length is None or {entry.length} == lengths)
        if (len(pairs) == 1 and _same_task(entry, one)) or (len(pairs) > 1 and spans):
            return entry.interval
    return None


def _same_task(one: Row | Difference, other: Row | Difference) -> bool:
    return (one.task, one.metric) == (other.task, other.metric)
