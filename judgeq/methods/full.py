"""Full cache: every row is kept. The reference that all others are measured against."""

from __future__ import annotations

from dataclasses import dataclass

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method


@dataclass(frozen=True)
class Full(Method):
    """No eviction; ignores the budget."""

    name = "full"
    title = "Full cache"
    phrase = "the full cache"
    summary = "Keeps everything: the reference."
    look = Look("#3a7cc0", "solid", "x")
    attention = False
    idle = frozenset({"sinks", "recent", "pool", "unit", "allocation", "memory"})
    queries_needed = 0
    selection: Selection = Selection(pool=1)

    def score(self, view: LayerView) -> None:
        return None
