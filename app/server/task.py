"""A request and its results, as plain values that a run fills in. Knows nothing of models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.server.own_tokens import OwnTokens
from judgeq.config import DEFAULT_BUDGET, Budget
from judgeq.inference.answers import Answer
from judgeq.inference.spans import Span
from judgeq.retention import RetentionMap
from judgeq.retention.lost import Lost


@dataclass(frozen=True)
class Task:
    """A request; fields as in `judgeq.read`.

    Attributes:
        answer_prefix: what every method's answer continues; it is shown with each of them.
        expected: what a right answer contains, where that is known.
        own_tokens: soft tokens that the visitor uploaded; None = those of the model.
    """

    document: str
    question: str
    methods: tuple[str, ...] = ("full", "judgeq", "snapkv")
    budget: Budget = DEFAULT_BUDGET
    question_first: bool = False
    truncate: bool | None = False
    max_new_tokens: int = 32
    expected: str = ""
    own_tokens: OwnTokens | None = None
    pinned: tuple[Span, ...] = ()
    dropped: tuple[Span, ...] = ()
    answer_prefix: str = ""

    def begun(self, answer: str) -> str:
        """An answer with what it continues."""
        return f"{self.answer_prefix}{answer}".strip()


Lit = tuple[list[list[int]], list[dict[str, Any]]]
"""What an answer's words light, and the sentences that it leans on: `Lane.steps` and `Lane.leaning`."""


@dataclass
class Lane:
    """One method's answer as far as it is written; costs are measured, None = not yet.

    Attributes:
        rows: rows per KV head when decoding starts, the mean over layers.
        kv_bytes: bytes of those rows, keys and values, all layers and heads.
        lost: how much of the full cache's answer this method has lost everywhere; None without that answer.
        lost_words: its words of which no head keeps everything, each once.
        steps: for each token of the answer its word and what it attends to, see `judgeq.retention.glow.Lights.steps`.
        leaning: the sentences that the answer leans on, see `Lights.leaning`.
        by_layer: both for each layer alone, where they are stored.
    """

    method: str
    text: str = ""
    rows: float | None = None
    kv_bytes: int | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    seconds: list[float] = field(default_factory=list)
    finish: str | None = None
    retention: RetentionMap | None = None
    answer: Answer | None = None
    lost: Lost | None = None
    lost_words: tuple[str, ...] = ()
    steps: list[list[int]] = field(default_factory=list)
    leaning: list[dict[str, Any]] = field(default_factory=list)
    by_layer: Sequence[Lit] = ()


def note_lost(lanes: Sequence[Lane]) -> None:
    """Fill in what the methods have lost of the full cache's answer, where that was written to its end."""
    full = next((lane for lane in lanes if lane.method == "full"), None)
    if full is None or full.finish in (None, "cancelled"):
        return
    for lane in lanes:
        if lane is not full and lane.retention is not None:
            lane.lost = lane.retention.lost_everywhere(full.text)
            words = (full.text[first:last] for first, last in lane.lost.spans)
            lane.lost_words = tuple(dict.fromkeys(words))


@dataclass(frozen=True)
class Earlier:
    """A question that was asked about the same document before.

    Attributes:
        answers: pairs of a method and its answer.
        prefill_s: what reading took until the first token could be chosen.
    """

    question: str
    answers: tuple[tuple[str, str], ...]
    prefill_s: float
