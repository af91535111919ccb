"""One optimization of some tensors on stored examples: steps, learning-rate schedule, history and checkpoint."""

from __future__ import annotations

import json
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from judgeq.errors import InputError, JudgeqError
from judgeq.inference.prefill_batch import group_by_length
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import rope_depends_on_length
from judgeq.objects import brief
from judgeq.output import replacing
from judgeq.training.config import TrainConfig
from judgeq.training.examples import TrainingExample
from judgeq.training.progress import Progress
from judgeq.training.store import Store
from judgeq.training.workers import Workers

CHECKPOINT_STEPS = 20
WARMUP_SHARE = 0.05
EVALUATIONS = 6  # times that held-out figures are measured, the last time at the end
MAX_LENGTH_RATIO = 2.0  # how many times the shortest prompt of a pass the longest may be


@dataclass(frozen=True, eq=False)
class Setting:
    """What every optimization of a training shares.

    Attributes:
        train_set, held_out_set: examples to train on, and to measure on.
        workers: the processes that share them.
    """

    __repr__ = brief

    lm: LanguageModel
    config: TrainConfig
    train_set: Store
    held_out_set: Store
    workers: Workers


class Run(ABC):
    """State of one optimization: Adam, the history so far, and their checkpoint.

    Attributes:
        phase: what progress calls it.
        history: one entry a step: `loss`, and every few steps the held-out figures.
    """

    phase: ClassVar[str]

    def __init__(self, setting: Setting, checkpoint: Path, groups: list[dict[str, object]], epochs: int) -> None:
        """Continue from the checkpoint where there is one.

        Args:
            groups: what is trained, for an optimizer, each group with its peak learning rate.
            epochs: passes over the examples.

        Raises:
            InputError: the checkpoint is that of another recipe.
        """
        self.lm, self.config, self.workers = setting.lm, setting.config, setting.workers
        self.train_set, self.held_out_set = setting.train_set, setting.held_out_set
        self.checkpoint, self.epochs = checkpoint, epochs
        self.adam = torch.optim.Adam(groups, fused=True)
        self.history: list[dict[str, float]] = []
        if checkpoint.exists():
            self._restore()

    @abstractmethod
    def losses(self, examples: Sequence[TrainingExample]) -> Tensor:
        """Loss of each example of one pass, (examples,), differentiable in what is trained."""

    @abstractmethod
    def measured(self) -> dict[str, float]:
        """Figures on the held-out examples, which the workers share."""

    @property
    def steps(self) -> int:
        """Optimization steps of the whole run."""
        return self.epochs * math.ceil(len(self.train_set) / self.config.accumulate)

    def finish(self, progress: Progress) -> None:
        """Take all steps that are left."""
        order = self._order()
        evaluated = (
            {round(self.steps * at / EVALUATIONS) for at in range(1, EVALUATIONS + 1)}
            if len(self.held_out_set)
            else set()
        )
        for step in range(len(self.history), self.steps):
            for group in self.adam.param_groups:
                group["lr"] = group["peak"] * _schedule(step, self.steps)
            entry = {"loss": self._step(order[step])}
            if step + 1 in evaluated:
                entry |= self.measured()
            self.history.append(entry)
            if (step + 1) % CHECKPOINT_STEPS == 0 and self.workers.rank == 0:
                self._save()
            try:
                progress.advance(self.phase, step + 1, self.steps, **self.latest())
            except BaseException:
                if self.workers.rank == 0:  # who stops a run here loses no step
                    self._save()
                raise

    def last_loss(self) -> dict[str, float]:
        """Mean loss of the last epoch, by the name `loss`; empty where there was none."""
        epoch = self.history[-max(1, len(self.history) // max(1, self.epochs)) :]
        return {"loss": sum(entry["loss"] for entry in epoch) / len(epoch)} if epoch else {}

    def latest(self) -> dict[str, float]:
        """The last known value of every figure."""
        known: dict[str, float] = {}
        for entry in reversed(self.history):
            known = entry | known
            if len(entry) > 1:
                break
        return known

    def held_out(self) -> dict[str, float]:
        """The last known held-out figures, their names beginning with `held_out_`."""
        return {f"held_out_{name}": value for name, value in self.latest().items() if name != "loss"}

    def _order(self) -> list[list[int]]:
        """The examples of every step: a fresh shuffle each epoch, the same on every run."""
        size, steps = self.config.accumulate, []
        for epoch in range(self.epochs):
            indices = list(range(len(self.train_set)))
            random.Random(self.config.seed * 7919 + epoch).shuffle(indices)
            steps += [indices[at : at + size] for at in range(0, len(indices), size)]
        return steps

    def _step(self, indices: list[int]) -> float:
        """One step of Adam; every worker takes its share of the examples and ends with the same tensors."""
        self.adam.zero_grad()
        total = 0.0
        own = (self.train_set[index] for index in indices[self.workers.rank :: self.workers.count])
        for examples in passes(self.lm, own):
            loss = self.losses(examples).sum() / len(indices)
            loss.backward()
            total += loss.item()
        self.workers.add_gradients(self._parameters)
        total = self.workers.total(total)
        if not math.isfinite(total):
            raise JudgeqError(
                f"The loss became {total} at step {len(self.history) + 1}: start again with a smaller "
                f"--learning-rate than {self.config.learning_rate}; finished responses are kept"
            )
        self.adam.step()
        return total

    @property
    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.adam.param_groups for parameter in group["params"]]

    def _save(self) -> None:
        tensors = {}
        for at, parameter in enumerate(self._parameters):
            tensors[f"{at}.value"] = parameter.detach()
            tensors |= {f"{at}.{name}": value for name, value in self.adam.state[parameter].items()}
        meta = {"recipe": json.dumps(self.config.to_dict()), "history": json.dumps(self.history)}
        with replacing(self.checkpoint) as part:
            save_file(tensors, part, metadata=meta)

    def _restore(self) -> None:
        with safe_open(self.checkpoint, framework="pt") as file:
            meta: dict[str, Any] = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
        if json.loads(meta["recipe"]) != self.config.to_dict():
            raise InputError(
                f"{self.checkpoint.parent} holds the checkpoint of another recipe: use another --out, or delete it"
            )
        for at, parameter in enumerate(self._parameters):
            parameter.data.copy_(tensors[f"{at}.value"])
            if f"{at}.step" in tensors:  # adapters after the last attention never get a gradient
                names = ("step", "exp_avg", "exp_avg_sq")
                self.adam.state[parameter] = {name: tensors[f"{at}.{name}"].to(parameter.device) for name in names}
        self.history = json.loads(meta["history"])


def passes(lm: LanguageModel, examples: Iterable[TrainingExample]) -> Iterable[Sequence[TrainingExample]]:
    """Examples in groups of one pass: of similar length on a GPU, where they are padded; one by one where layers have a
    sliding window, or where the rotation of a prompt's rows depends on its length."""
    found = list(examples)
    lengths = [len(example.prompt) for example in found]
    shortest, longest = min(lengths, default=0), max(lengths, default=0)
    if lm.geometry.sliding or rope_depends_on_length(lm.model, shortest, longest - shortest):
        return ((example,) for example in found)
    groups = group_by_length(lengths, MAX_LENGTH_RATIO if lm.device.type == "cuda" else math.inf)
    return ([found[at] for at in group] for group in groups)


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to 0."""
    warmup = max(1, round(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
