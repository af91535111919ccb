"""Rows that belong together, and what follows from them: averages, leads, closed gaps, moved questions.

Figures of different files are never mixed: they may have been measured with other settings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from judgeq.config import Budget
from judgeq.evaluation.report.read import AVERAGE, BASELINE, HIT_RATE, Difference, Interval, ResultFile, Row
from judgeq.evaluation.report.words import FULL, NOT_DEPLOYABLE, benchmark_title, budget_title, kind_of

Moves = Mapping[tuple[str, Budget], "Move"]
"""By method and budget."""


@dataclass(frozen=True)
class Block:
    """The rows of one benchmark in one file, with the question in one place.

    Attributes:
        benchmark: its name; a hit rate's name has the texts in it.
        rows: tasks and averages, no parts of tasks.
        named: the title has the file's name, because other files measured the same benchmark.
    """

    file: ResultFile
    benchmark: str
    question_first: bool
    rows: tuple[Row, ...]
    named: bool = False

    @property
    def title(self) -> str:
        where = ", question first" if self.question_first else ""
        return benchmark_title(self.benchmark) + where + (f" ({self.file.name})" if self.named else "")

    @property
    def is_hit_rate(self) -> bool:
        """Whether kept rows are compared, not answers."""
        return any(row.metric == HIT_RATE for row in self.rows)

    @property
    def full(self) -> str | None:
        """The full cache's method, if it was measured."""
        return next((method for method in self._measured if kind_of(method) == FULL), None)

    @property
    def methods(self) -> list[str]:
        """The others, in the file's order; those that cannot be deployed last."""
        found = [method for method in self._measured if kind_of(method) != FULL]
        return sorted(found, key=lambda method: not deployable(method))

    @property
    def all_methods(self) -> list[str]:
        """The full cache first, if it was measured, then the others."""
        return self.methods if self.full is None else [self.full, *self.methods]

    @property
    def quantized_full(self) -> list[str]:
        """Full caches stored in fewer bits; they have bytes of their own, but no budget."""
        return [method for method in self._measured if kind_of(method) == FULL and method != self.full]

    @property
    def budgets(self) -> list[Budget]:
        """Budgets of the methods that evict, rows before shares, small before large; the whole prompt if none does."""
        found = {row.budget for row in self.rows if kind_of(row.method) != FULL} or {1.0}
        return sorted(found, key=lambda budget: (isinstance(budget, float), budget))

    @property
    def budget_titles(self) -> list[str]:
        """The budgets as people write them."""
        return [budget_title(budget, self.per) for budget in self.budgets]

    @property
    def lengths(self) -> list[int]:
        """Lengths of prompts, where the benchmark has some."""
        return sorted({row.length for row in self.rows if row.length is not None})

    @property
    def scopes(self) -> list[int | None]:
        """Lengths that averages are given for: all together (None), where there are several, then each."""
        return [None, *self.lengths] if len(self.lengths) != 1 else list(self.lengths)

    @property
    def table_lengths(self) -> list[int | None]:
        """Lengths that tables of tasks are given for: each, or None for tasks that have none."""
        return list(self.lengths) if all(row.length for row in self.tasks()) else [None]

    @property
    def depths(self) -> list[int]:
        """Depths of a needle, from the start of the document to its end."""
        return sorted({row.depth for row in self.rows if row.depth is not None})

    @property
    def has_needles(self) -> bool:
        """Whether depth x length can be drawn."""
        return bool(self.depths and self.lengths)

    @property
    def per(self) -> int | None:
        """Tokens that a share of the budget was requested per, as in `64 rows per 1,000 tokens`; None if it was not."""
        per = self.file.settings.get("per")
        return per if isinstance(per, int) and per > 0 else None

    def tasks(self, length: int | None = None) -> list[Row]:
        """One row, of any method, for each task; of one length, or of all."""
        singles = [row for row in self.rows if row.metric != AVERAGE and length in (None, row.length)]
        return list({(row.task, row.metric): row for row in singles}.values())

    def score(self, method: str, budget: Budget, task: Row) -> Row | None:
        """A method's row for a task."""
        return next((row for row in self._of(method, budget) if _same_task(row, task)), None)

    def average(self, method: str, budget: Budget, length: int | None = None) -> Row | None:
        """The file's average over tasks, of one length or of all; computed where the file has none.

        None for a method that has not done all tasks: an average over fewer would compare unlike things.
        """
        of_length = [row for row in self._of(method, budget) if length in (None, row.length)]
        spans = length if length is not None or len(self.lengths) != 1 else self.lengths[0]
        given = [row for row in of_length if row.metric == AVERAGE and row.length == spans]
        singles = [row for row in of_length if row.metric != AVERAGE]
        if given:
            return given[0]
        if not singles or len(singles) < len(self.tasks(length)):
            return None
        if len(singles) == 1:
            return singles[0]
        computed = {
            "task": self.benchmark,
            "metric": AVERAGE,
            "score": sum(row.score for row in singles) / len(singles),
            "length": length,
            "depth": None,
            "n": sum(row.n for row in singles),
            "tasks": len(singles),
            "interval": None,
            "kv_bytes": _mean_of(row.kv_bytes for row in singles),
            "lost": _mean_of(row.lost for row in singles),
            "per_layer": (),
        }
        return singles[0].model_copy(update=computed)

    def full_average(self, length: int | None = None) -> Row | None:
        """The full cache's average."""
        return None if self.full is None else self.average(self.full, 1.0, length)

    def best(self, budget: Budget, length: int | None = None) -> list[str]:
        """The deployable methods with the highest average; several where they tie."""
        rows = {method: self.average(method, budget, length) for method in self.methods if deployable(method)}
        return best_of({method: row.score for method, row in rows.items() if row})

    def lead(self, method: str, budget: Budget, length: int | None = None) -> Difference | None:
        """What a method gains over SnapKV on average, with the file's interval where it has one."""
        ours, theirs = (self.average(name, budget, length) for name in (method, BASELINE))
        if ours is None or theirs is None or method == BASELINE:
            return None
        for entry in self.file.differences:
            same = (entry.method, entry.against, entry.budget) == (method, BASELINE, budget)
            if same and entry.question_first == self.question_first and _same_task(entry, ours):
                return entry
        fields = {name: getattr(ours, name) for name in Difference.model_fields if hasattr(ours, name)}
        difference = ours.score - theirs.score
        return Difference(**{**fields, "interval": None}, difference=difference, against=BASELINE)

    def gap_closed(self, method: str, budget: Budget, length: int | None = None) -> float | None:
        """Share of the way from SnapKV to the full cache; None where there is no such way."""
        ours, low = (self.average(name, budget, length) for name in (method, BASELINE))
        high = self.full_average(length)
        if ours is None or low is None or high is None or high.score <= low.score:
            return None
        return (ours.score - low.score) / (high.score - low.score)

    def layer_rates(self, budget: Budget) -> dict[str, tuple[float, ...]]:
        """Hit rates of each layer by method, where the file has them."""
        found = {method: self.average(method, budget) for method in self.methods}
        return {method: row.per_layer for method, row in found.items() if row is not None and row.per_layer}

    def needle(self, method: str, budget: Budget, depth: int, length: int) -> Row | None:
        """The score at one depth and length."""
        task = next((task for task in self.tasks(length) if task.depth == depth), None)
        return None if task is None else self.score(method, budget, task)

    @property
    def _measured(self) -> list[str]:
        return list(dict.fromkeys(row.method for row in self.rows))

    def _of(self, method: str, budget: Budget) -> list[Row]:
        """Rows of a method; the full cache has no budget."""
        whole = kind_of(method) == FULL
        return [row for row in self.rows if row.method == method and (whole or row.budget == budget)]


def _mean_of(values: Iterable[float | None]) -> float | None:
    """None unless all are known."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known and len(known) == len(found) else None


def deployable(method: str) -> bool:
    """Whether a method could be used: it evicts, and does not need to know the answer."""
    return kind_of(method) not in NOT_DEPLOYABLE


def best_of(scores: Mapping[str, float]) -> list[str]:
    """The names with the highest score, as exact as files are."""
    most = max(scores.values(), default=0.0)
    return [name for name, score in scores.items() if round(score, 4) == round(most, 4)]


@dataclass(frozen=True)
class BytePoint:
    """A method at one budget, by what it stores.

    Attributes:
        share: of the bytes of the full cache, unquantized.
        detail: the budget, as people write it, with the bytes.
    """

    share: float
    score: float
    interval: Interval | None
    detail: str


def byte_points(block: Block, length: int | None) -> dict[str, list[BytePoint]]:
    """By method, in ascending order of bytes; every precision of the rows is a method of its own.

    A full cache of fewer bits is a point as well. Empty where the file does not have the bytes of the full cache and of
    some other method, or compares kept rows alone.
    """
    full = None if block.full is None else block.average(FULL, 1.0, length)
    if full is None or not full.kv_bytes or block.is_hit_rate:
        return {}
    pairs = [(method, budget) for method in block.methods for budget in block.budgets]
    pairs += [(method, 1.0) for method in block.quantized_full]
    points: dict[str, list[BytePoint]] = {}
    for method, budget in pairs:
        row = block.average(method, budget, length)
        if row is not None and row.kv_bytes:
            title = budget_title(budget, block.per) if kind_of(method) != FULL else "all rows"
            detail = f"{title}, {row.kv_bytes / 1e6:,.2f} MB"
            point = BytePoint(row.kv_bytes / full.kv_bytes, row.score, row.interval, detail)
            points.setdefault(method, []).append(point)
    return {method: sorted(found, key=lambda point: point.share) for method, found in points.items()}


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
    """A method's average with the question last and first, over `tasks` that were measured in both places.

    The interval is that of `first - last`, where the file has one.
    """

    last: float
    first: float
    interval: Interval | None
    tasks: int

    @property
    def change(self) -> float:
        """Below zero where the method loses."""
        return self.first - self.last


def moves_of(file: ResultFile, benchmark: str) -> dict[tuple[str, Budget], Move]:
    """For each method and budget, over the tasks that were measured with the question in both places."""
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


def _moved_interval(file: ResultFile, pairs: Sequence[tuple[Row, Row]]) -> Interval | None:
    """The file's own interval of the same comparison."""
    one = pairs[0][0]
    lengths = {last.length for last, _ in pairs}
    for entry in file.moved:
        if (entry.method, entry.budget, entry.benchmark) != (one.method, one.budget, one.benchmark):
            continue
        spans = entry.metric == AVERAGE and (entry.length is None or {entry.length} == lengths)
        if _same_task(entry, one) if len(pairs) == 1 else spans:
            return entry.interval
    return None


def _same_task(one: Row | Difference, other: Row | Difference) -> bool:
    return (one.task, one.metric) == (other.task, other.metric)


@dataclass(frozen=True)
class Part:
    """Everything about one model: its name, its files as they were given, blocks of all files with hit rates last."""

    model: str
    files: tuple[ResultFile, ...]
    blocks: tuple[Block, ...]

    @property
    def moved(self) -> list[tuple[Block, Moves]]:
        """Blocks that were measured with the question in both places, and what moving it does."""
        last = [block for block in self.blocks if not block.question_first]
        pairs = [(block, moves_of(block.file, block.benchmark)) for block in last]
        return [(block, moves) for block, moves in pairs if any(kind_of(name) != FULL for name, _ in moves)]


def parts_of(files: Sequence[ResultFile]) -> list[Part]:
    """One part for each model, in the order of the files."""
    parts = []
    for model in dict.fromkeys(file.model for file in files):
        own = tuple(file for file in files if file.model == model)
        counts = Counter(benchmark for file in own for benchmark in {row.benchmark for row in file.rows})
        named = {benchmark for benchmark, count in counts.items() if count > 1}
        blocks = [block for file in own for block in blocks_of(file, named)]
        parts.append(Part(model, own, tuple(sorted(blocks, key=lambda block: block.is_hit_rate))))
    return parts
