"""Full cache: every row stays. The reference that all others are measured against."""

from __future__ import annotations

from dataclasses import dataclass

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Method


@dataclass(frozen=True)
class Full(Method):
    """No eviction; ignores the budget."""

    name = "full"
    attention = False
    idle = frozenset({"sinks", "recent", "pool", "allocation"})
    selection: Selection = Selection(pool=1)

    @property
    def queries_needed(self) -> int:
        return 0

    def score(self, view: LayerView) -> None:
        return None
