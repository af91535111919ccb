"""What a report holds and in which order, for the page and for Markdown alike: models, blocks, their tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block, Move, blocks_of, moves_of
from judgeq.evaluation.report.paper import Published, published_for
from judgeq.evaluation.report.read import ResultFile
from judgeq.evaluation.report.summary import Summary, summary_of, warnings_of
from judgeq.evaluation.report.tables import Table, gap_table, lead_table, score_table, task_table
from judgeq.evaluation.report.words import FULL, kind_of

TITLE = "Judge Q: results"
ABOUT = (
    "How well a language model still answers when most of its KV cache has been evicted, method against method on the "
    "same questions."
)
WORDS = (
    ("Budget", "Rows kept per KV head and layer, or the share of the prompt that is kept."),
    (
        "Score",
        "The benchmark’s own metric, 100 % is best; behind it its 95 % bootstrap interval over questions.",
    ),
    (
        "Bold",
        "The best deployable method. The full cache saves nothing, the oracle has to know the answer: they are there "
        "to compare with.",
    ),
    ("Gap closed", "The share of the way from SnapKV to the full cache, at the same budget."),
    ("Hit rate", "The share of the oracle’s top rows that a method keeps."),
)
"""What a reader has to know, as (word, meaning)."""


@dataclass(frozen=True)
class Moved:
    """What moving the question does in one benchmark of one file.

    Attributes:
        title: of the benchmark.
        moves: by method and budget.
        per: see `Block.per`.
    """

    title: str
    moves: Mapping[tuple[str, Budget], Move]
    per: int | None


@dataclass(frozen=True)
class Part:
    """Everything about one model.

    Attributes:
        model: its name.
        files: its result files, as they were given.
        blocks: of all files, hit rates last.
    """

    model: str
    files: tuple[ResultFile, ...]
    blocks: tuple[Block, ...]

    @property
    def summaries(self) -> list[Summary]:
        """One for each block that compares methods."""
        return [summary for block in self.blocks if (summary := summary_of(block))]

    @property
    def warnings(self) -> list[str]:
        """Of all files; each with its file's name where there are several."""
        return [
            f"{file.name}: {text}" if len(self.files) > 1 else text
            for file in self.files
            for text in warnings_of(file)
        ]

    @property
    def moved(self) -> list[Moved]:
        """The benchmarks that were measured with the question in both places."""
        found = []
        for block in self.blocks:
            moves = moves_of(block.file, block.benchmark)
            evicting = any(kind_of(method) != FULL for method, _ in moves)
            if evicting and not block.question_first:
                found.append(Moved(block.title, moves, block.per))
        return found

    @property
    def published(self) -> list[tuple[Published, list[Block]]]:
        """The paper's tables that have something here beside them, each with what that is."""
        found: dict[str, tuple[Published, list[Block]]] = {}
        for block in self.blocks:
            if published := published_for(block):
                found.setdefault(published.title, (published, []))[1].append(block)
        return list(found.values())


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


def score_tables(block: Block) -> list[Table]:
    """Averages, of all lengths and of each."""
    return [score_table(block, length) for length in block.scopes]


def compared_tables(block: Block) -> list[Table]:
    """Leads over SnapKV and closed gaps, on average over everything."""
    tables = (lead_table(block, block.scopes[0]), gap_table(block, block.scopes[0]))
    return [table for table in tables if table is not None]


def task_tables(block: Block) -> dict[tuple[int | None, Budget], Table]:
    """Tasks x methods by length and budget; empty where averages already say it all, each over one task."""
    if all(len(block.tasks(length)) < 2 for length in block.table_lengths):
        return {}
    return {
        (length, budget): task_table(block, length, budget)
        for length in block.table_lengths
        for budget in block.budgets
    }


def has_needles(block: Block) -> bool:
    """Whether depth x length can be drawn."""
    return bool(block.depths and block.lengths)
