"""What the paper published, typed from its tables, as tables to lay beside one's own.

Judge Q, arXiv 2509.10798, on Llama-3.1-8B-Instruct. Scores are shares here as everywhere in this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from judgeq.evaluation.report.blocks import Block, best_of
from judgeq.evaluation.report.tables import Cell, Table, gap_table, score_table, share_of_gap
from judgeq.evaluation.report.words import BASELINE, FULL, method_title, percent

CITATION = "arXiv 2509.10798"
MODEL = "Llama-3.1-8B-Instruct"


@dataclass(frozen=True)
class Published:
    """One table of the paper.

    Attributes:
        title: what it shows.
        budgets: rows, one a column.
        scores: percent for each method, one a budget; its key is the method's registered name.
        full: percent that the full cache reaches, where the paper says.
    """

    title: str
    budgets: tuple[int, ...]
    scores: Mapping[str, tuple[float, ...]]
    full: float | None = None

    def gap_closed(self, method: str) -> list[float | None]:
        """Share of the way from SnapKV to the full cache, one a budget."""
        pairs = zip(self.scores[method], self.scores[BASELINE], strict=True)
        return [None if self.full is None else (score - low) / (self.full - low) for score, low in pairs]


PUBLISHED = {
    "ruler": Published(
        "RULER, 8,192 tokens",
        (256, 512, 1024),
        {
            "snapkv": (57.83, 62.76, 68.21),
            "pyramidkv": (56.86, 61.19, 66.30),
            "judgeq": (63.13, 69.24, 74.12),
        },
        87.18,
    ),
    "longbench": Published(
        "LongBench, average",
        (128, 256, 512),
        {
            "streamingllm": (30.50, 31.79, 32.64),
            "h2o": (33.67, 34.37, 35.30),
            "snapkv": (34.31, 36.56, 38.31),
            "pyramidkv": (34.08, 36.00, 37.58),
            "judgeq": (35.90, 37.69, 39.17),
        },
        41.23,
    ),
    "hit-rate": Published(
        "Hit rate",
        (128, 256, 512),
        {"snapkv": (53.44, 55.23, 58.46), "judgeq": (61.37, 62.34, 65.06)},
    ),
}
"""By the benchmark's name."""
MOVED = (
    "Published by others for another model: with the question moved to the front, the baselines lose about 10 % and "
    f"Judge Q under 7 % ({MODEL}, {CITATION})."
)


def published_for(block: Block) -> Published | None:
    """The paper's table of the same benchmark; it has the question at the end everywhere."""
    return None if block.question_first else PUBLISHED.get(block.benchmark.partition("/")[0])


def published_tables(published: Published) -> list[Table]:
    """The paper's scores, and the share of the gap that each method closes."""
    columns = tuple(f"{budget:,} rows" for budget in published.budgets)
    best = [
        best_of({method: scores[at] for method, scores in published.scores.items()})
        for at in range(len(columns))
    ]
    full = (
        []
        if published.full is None
        else [(method_title(FULL), (Cell(percent(published.full / 100)),) * len(columns))]
    )
    lines = [
        (
            method_title(method),
            tuple(Cell(percent(score / 100), best=method in best[at]) for at, score in enumerate(scores)),
        )
        for method, scores in published.scores.items()
    ]
    label = f"Published by others: {published.title}, {MODEL} ({CITATION})"
    tables = [Table(label, "method", columns, (*full, *lines))]
    if published.full is not None:
        gaps = [
            (
                method_title(method),
                tuple(
                    Cell("–" if gap is None else share_of_gap(gap)) for gap in published.gap_closed(method)
                ),
            )
            for method in published.scores
            if method != BASELINE
        ]
        caption = (
            f"Published by others: share of the gap that is closed, {MODEL}, computed from the figures above"
        )
        tables.append(Table(caption, "method", columns, tuple(gaps)))
    return tables


def own_tables(block: Block) -> list[Table]:
    """The same two tables as they were measured here."""
    scope = 8192 if block.benchmark == "ruler" and 8192 in block.lengths else block.scopes[0]
    gaps = gap_table(block, scope)
    return [score_table(block, scope), *([] if gaps is None else [gaps])]
