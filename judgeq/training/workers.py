"""The processes that train together under `accelerate launch`; one process alone is the plain case."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from accelerate import PartialState
from accelerate.utils import reduce


class Workers:
    """This process among all of a training, and their few collective operations.

    Attributes:
        rank: number of this process, 0 for the one that writes files.
        count: number of processes.
        device: where this process's model belongs; each has a GPU of its own where there are several.
    """

    def __init__(self) -> None:
        self._state = PartialState(cpu=not torch.cuda.is_available())
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
