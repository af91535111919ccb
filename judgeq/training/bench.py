"""What a training step costs: on stored rows, several prompts in a pass, against prompts that are read again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from judgeq.data.wiki import WikiSource
from judgeq.models.language_model import LanguageModel
from judgeq.training.config import STORE_GB, TrainConfig
from judgeq.training.examples import TrainingExample
from judgeq.training.optimization import passes
from judgeq.training.progress import Progress
from judgeq.training.store import Store
from judgeq.training.train import example_losses
from judgeq.training.trainable import initial_tokens, let_gradients_through, parameter_groups, trainable
from judgeq.training.workers import Workers

Clock = Callable[[], float]


@dataclass(frozen=True)
class StepTimes:
    """Seconds a prompt, forward, backward and its share of Adam: medians over rounds measured in turn.

    Attributes:
        prompt_tokens: mean length of the step's prompts.
        stored: with the prompts' rows from the disk, several in a pass as in training.
        alone: the same one by one.
        recomputed: one by one, each prompt read again, without gradients.
        answer: seconds that the model's own answer and the attention of it took, once.
        rounds: how often each was measured.
    """

    prompt_tokens: int
    stored: float
    alone: float
    recomputed: float
    answer: float
    rounds: int

    @property
    def ratio(self) -> float:
        """How many times longer a prompt takes when it is read again."""
        return self.recomputed / self.stored


def step_times(
    lms: Sequence[LanguageModel],
    config: TrainConfig,
    tokens: int,
    rounds: int,
    clock: Clock = time.perf_counter,
) -> list[StepTimes]:
    """Measure one step of prompts of about `tokens` tokens, with each model.

    Args:
        lms: the same model in one type or several, measured in turn.
        config: recipe of the step.
        rounds: at least 1; an unmeasured warm-up is run first.
        clock: `time.process_time` where other work shares the CPU.
    """
    with TemporaryDirectory() as folder:
        steps = [_Steps(lm, config, tokens, Path(folder) / str(at), clock) for at, lm in enumerate(lms)]
        for _ in range(rounds + 1):
            for step in steps:
                step.measure()
        return [step.times(rounds) for step in steps]


class _Steps:
    """One model's steps on the same examples, in each way."""

    def __init__(self, lm: LanguageModel, config: TrainConfig, tokens: int, folder: Path, clock: Clock) -> None:
        let_gradients_through(lm)
        count = config.accumulate
        self.config = replace(config, examples=count, batch=count, min_tokens=tokens, max_tokens=tokens)
        self.lm, self.clock = lm, clock
        self.train_set = Store(folder, lm, self.config, WikiSource(held_out=True), count)
        began = clock()
        self.train_set.fill(Progress(), Workers(), STORE_GB)
        self.answer = (clock() - began) / count
        self.weights = trainable(initial_tokens(lm, self.config, self.train_set).weights, lm, self.config)
        groups = parameter_groups(self.weights, self.config)
        self.adam = torch.optim.Adam(groups, lr=0.0, fused=True)
        self.ways: dict[Callable[[], None], list[float]] = {
            self._stored: [],
            self._alone: [],
            self._recomputed: [],
        }

    def measure(self) -> None:
        for way, seconds in self.ways.items():
            began = self.clock()
            self.adam.zero_grad()
            way()
            self.adam.step()
            if self.lm.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append((self.clock() - began) / len(self.train_set))

    def times(self, rounds: int) -> StepTimes:
        stored, alone, again = (statistics.median(seconds[1:]) for seconds in self.ways.values())
        tokens = sum(map(len, self.train_set.prompts)) // len(self.train_set)
        return StepTimes(tokens, stored, alone, again, self.answer, rounds)

    def _stored(self) -> None:
        for group in passes(self.lm, (self.train_set[at] for at in range(len(self.train_set)))):
            self._learn(group)

    def _alone(self) -> None:
        for at in range(len(self.train_set)):
            self._learn([self.train_set[at]])

    def _recomputed(self) -> None:
        for at in range(len(self.train_set)):
            example = self.train_set[at]
            self._learn([replace(example, keys=None, values=None, window_keys=None, window_values=None)])

    def _learn(self, examples: Sequence[TrainingExample]) -> None:
        example_losses(self.lm, self.weights, examples, self.config).sum().backward()
