"""The processes that train or measure together under `accelerate launch`; one process alone is the plain case."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce

_Value = TypeVar("_Value")

LONGEST_WAIT = timedelta(days=7)
"""For the slowest process; some benchmarks take days, and PyTorch gives up after minutes by default."""


class Workers:
    """This process among all of a run, and their few collective operations.

    Values go from one process of a run to another as PyTorch sends them, and never to or from a file.

    Attributes:
        rank: number of this process, 0 for the one that writes files.
        count: number of processes.
        device: where this process's model belongs; each has a GPU of its own where there are several.
    """

    def __init__(self) -> None:
        self._state = PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
        self.rank: int = self._state.process_index
        self.count: int = self._state.num_processes
        self.device: torch.device = self._state.device

    def wait(self) -> None:
        """Wait until every process has arrived here."""
        self._state.wait_for_everyone()

    def add_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Every process ends with the sum of all gradients."""
        if self.count > 1:
            for parameter in parameters:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = reduce(gradient, reduction="sum")

    def total(self, value: float) -> float:
        """Sum of every process's number."""
        if self.count == 1:
            return value
        return float(reduce(torch.tensor(value, device=self._state.device), reduction="sum"))

    def has(self, turn: int) -> bool:
        """Whether a piece of work is this process's, by its number.

        Of as many pieces as there are processes each gets one, in changing order: long and short pieces may take turns.
        """
        return (turn + turn // self.count) % self.count == self.rank

    def agree(self, value: _Value) -> _Value:
        """The first process's value, in every process."""
        return broadcast_object_list([value])[0]

    def gather(self, values: Sequence[_Value]) -> list[_Value]:
        """Every process's values, in every process."""
        return gather_object(list(values))
