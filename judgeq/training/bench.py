"""What the store saves: a training step on stored rows against one that reads the prompt again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from judgeq.data.wiki import WikiSource
from judgeq.models.language_model import LanguageModel
from judgeq.training.config import STORE_GB, TrainConfig
from judgeq.training.progress import Progress
from judgeq.training.store import Store
from judgeq.training.train import example_losses
from judgeq.training.trainable import initial_tokens, let_gradients_through, trainable
from judgeq.training.workers import Workers


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one example's forward and backward pass, medians over rounds measured in turn.

    Attributes:
        prompt_tokens: length of the example's prompt.
        stored: with the prompt's rows from the disk.
        recomputed: with the prompt read again, without gradients, before the same step.
        rounds: how often each was measured.
    """

    prompt_tokens: int
    stored: float
    recomputed: float
    rounds: int

    @property
    def ratio(self) -> float:
        """How many times longer the step takes without a store."""
        return self.recomputed / self.stored


def step_times(lm: LanguageModel, config: TrainConfig, tokens: int, rounds: int) -> StepTimes:
    """Measure one prompt of about `tokens` tokens.

    Args:
        config: recipe of the step.
        rounds: at least 1; an unmeasured warm-up is run first.
    """
    let_gradients_through(lm)
    config = replace(config, examples=1, min_tokens=tokens, max_tokens=tokens)
    with TemporaryDirectory() as folder:
        train_set = Store(Path(folder), lm, config, WikiSource(held_out=True), 1)
        train_set.fill(Progress(), Workers(), STORE_GB)
        weights = trainable(initial_tokens(lm, config, train_set).weights, lm, config)

        def stored() -> None:
            example_losses(lm, weights, [train_set[0]], config).sum().backward()

        def recomputed() -> None:
            example = replace(train_set[0], keys=None, values=None, window_keys=None, window_values=None)
            example_losses(lm, weights, [example], config).sum().backward()

        times: dict[Callable[[], None], list[float]] = {stored: [], recomputed: []}
        for _ in range(rounds + 1):
            for step, seconds in times.items():
                started = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - started)
        kept, again = (statistics.median(seconds[1:]) for seconds in times.values())
        return StepTimes(len(train_set[0].prompt), kept, again, rounds)
