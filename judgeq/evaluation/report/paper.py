"""Figures that others published, to compare with: Judge Q, arXiv 2509.10798, on Llama-3.1-8B-Instruct, in percent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from judgeq.evaluation.report.blocks import Block, Part
from judgeq.evaluation.report.read import BASELINE

CITATION = "arXiv 2509.10798"
MODEL = "Llama-3.1-8B-Instruct"
MOVED = (
    "Published by others for another model: with the question moved to the front, the baselines lose about 10 % and "
    f"Judge Q under 7 % ({MODEL}, {CITATION})."
)


@dataclass(frozen=True)
class Published:
    """One table of the paper: percent for each method by its registered name, one for each budget, given in rows.

    `full` is what the full cache reaches, where the paper says.
    """

    title: str
    budgets: tuple[int, ...]
    scores: Mapping[str, tuple[float, ...]]
    full: float | None = None

    def gap_closed(self, method: str) -> list[float | None]:
        """Share of the way from SnapKV to the full cache, one per budget."""
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
        "Hit rate", (128, 256, 512), {"snapkv": (53.44, 55.23, 58.46), "judgeq": (61.37, 62.34, 65.06)}
    ),
}
"""By the benchmark's name."""


def published_for(part: Part) -> list[tuple[Published, list[Block]]]:
    """The paper's tables that something here compares with; the paper has the question at the end everywhere."""
    found: dict[str, list[Block]] = {}
    for block in part.blocks:
        name = block.benchmark.partition("/")[0]
        if name in PUBLISHED and not block.question_first:
            found.setdefault(name, []).append(block)
    return [(PUBLISHED[name], blocks) for name, blocks in found.items()]
