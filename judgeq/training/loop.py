"""The training loop: rows from the store, `n` tokens forward, gradients to the soft tokens and to nothing else."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from judgeq.errors import InputError, JudgeqError
from judgeq.language_model import LanguageModel
from judgeq.soft_tokens import Probe, SoftTokens
from judgeq.training.config import TrainConfig
from judgeq.training.objectives import OBJECTIVES
from judgeq.training.store import AttentionRecorder, Lesson, Store

CHECKPOINT = "checkpoint.safetensors"
CHECKPOINT_STEPS = 20
WARMUP_SHARE = 0.05

Progress = Callable[[str, int, int, float | None], None]
"""Called as `(phase, done, total, loss)`."""


def train(
    lm: LanguageModel,
    config: TrainConfig,
    out: Path,
    *,
    store: Path | None = None,
    progress: Progress = lambda phase, done, total, loss: None,
) -> SoftTokens:
    """Train soft tokens for `lm` and save them in `out`.

    An interrupted run with the same arguments goes on from its last finished batch of responses or its last
    checkpoint, and ends with the same soft tokens.

    Args:
        out: folder for the soft tokens, `losses.json` and, while it runs, the checkpoint.
        store: folder of prompt rows and teacher attention; `out/store` by default.
        progress: told about every batch and step.

    Raises:
        InputError: `out` holds a checkpoint or rows of another recipe.
        JudgeqError: the loss is not a number any more.
    """
    started = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    lessons = Store(store or out / "store", lm, config)
    lessons.fill(lambda done, total: progress("responses", done, total, None))
    run = _Run(lm, config, lessons, out / CHECKPOINT)
    losses = run.finish(progress)
    epoch = losses[-max(1, len(losses) // config.epochs) :]
    metrics = {
        f"training_{config.objective}": round(sum(epoch) / len(epoch), 4),
        "seconds_of_last_run": round(time.perf_counter() - started, 1),
    }
    origin = dataclasses.replace(run.initial.config, recipe=config.to_dict(), metrics=metrics)
    tokens = SoftTokens(run.trained(), origin)
    tokens.save_pretrained(out)
    (out / "losses.json").write_text(json.dumps(losses) + "\n", encoding="utf-8")
    (out / CHECKPOINT).unlink(missing_ok=True)
    return tokens


class _Run:
    """State of one optimization: soft tokens, Adam, the losses so far, and their checkpoint."""

    def __init__(self, lm: LanguageModel, config: TrainConfig, lessons: Store, checkpoint: Path) -> None:
        self.lm, self.config, self.lessons, self.checkpoint = lm, config, lessons, checkpoint
        self.initial = initial_tokens(lm, config, lessons)
        self.probe = _trainable(self.initial.probe, lm, config)
        groups = [{"params": [self.probe.embeddings], "peak": config.learning_rate}]
        if self.probe.query_offsets is not None:
            groups.append({"params": [self.probe.query_offsets], "peak": config.offset_learning_rate})
        self.adam = torch.optim.Adam(groups)
        self.losses: list[float] = []
        if checkpoint.exists():
            self._restore()

    @property
    def steps(self) -> int:
        """Optimization steps of the whole run."""
        return self.config.epochs * math.ceil(len(self.lessons) / self.config.accumulate)

    def finish(self, progress: Progress) -> list[float]:
        """Take all steps that are left; returns the loss of every step of the run."""
        order = self._order()
        for step in range(len(self.losses), self.steps):
            for group in self.adam.param_groups:
                group["lr"] = group["peak"] * _schedule(step, self.steps)
            self.losses.append(self._step(order[step]))
            if (step + 1) % CHECKPOINT_STEPS == 0:
                self._save()
            progress("training", step + 1, self.steps, self.losses[-1])
        return self.losses

    def _order(self) -> list[list[int]]:
        """The lessons of every step: a fresh shuffle each epoch, the same on every run."""
        size, steps = self.config.accumulate, []
        for epoch in range(self.config.epochs):
            indices = list(range(len(self.lessons)))
            random.Random(self.config.seed * 7919 + epoch).shuffle(indices)
            steps += [indices[at : at + size] for at in range(0, len(indices), size)]
        return steps

    def _step(self, indices: list[int]) -> float:
        self.adam.zero_grad()
        total = 0.0
        for index in indices:
            loss = lesson_loss(self.lm, self.probe, self.lessons[index], self.config) / len(indices)
            loss.backward()
            total += loss.item()
        if not math.isfinite(total):
            raise JudgeqError(
                f"The loss became {total} at step {len(self.losses) + 1}: start again with a smaller "
                f"--learning-rate than {self.config.learning_rate}; finished responses are kept"
            )
        self.adam.step()
        return total

    def trained(self) -> Probe:
        """The tensors as they are now, on the CPU, apart from the optimization."""
        offsets = self.probe.query_offsets
        return Probe(
            self.probe.embeddings.detach().cpu().clone(),
            None if offsets is None else offsets.detach().half().float().cpu(),  # as they are stored
        )

    @property
    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.adam.param_groups for parameter in group["params"]]

    def _save(self) -> None:
        tensors = {}
        for at, parameter in enumerate(self._parameters):
            tensors[f"{at}.value"] = parameter.detach()
            tensors |= {f"{at}.{name}": value for name, value in self.adam.state[parameter].items()}
        meta = {"recipe": json.dumps(self.config.to_dict()), "losses": json.dumps(self.losses)}
        part = self.checkpoint.with_suffix(".part")
        save_file(tensors, part, metadata=meta)
        part.replace(self.checkpoint)

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
            self.adam.state[parameter] = {
                "step": tensors[f"{at}.step"],  # stays on the CPU
                "exp_avg": tensors[f"{at}.exp_avg"].to(parameter.device),
                "exp_avg_sq": tensors[f"{at}.exp_avg_sq"].to(parameter.device),
            }
        self.losses = json.loads(meta["losses"])


def lesson_loss(lm: LanguageModel, probe: Probe, lesson: Lesson, config: TrainConfig) -> Tensor:
    """Objective of soft tokens on one lesson, averaged over layers; differentiable in the probe's tensors."""
    recorder = AttentionRecorder(probe.offsets_at(lm, lesson.keys.shape[2]))
    lm.model(
        inputs_embeds=probe.embeddings[None].to(lm.dtype),
        past_key_values=lesson.cache(lm.dtype, lm.device),
        logits_to_keep=1,
        observer=recorder,
    )
    teacher = lesson.teacher.to(lm.device, torch.float32)
    objective = OBJECTIVES[config.objective]
    losses = [
        objective(student[0], target, config.temper)
        for student, target in zip(recorder.layers, teacher, strict=True)
    ]
    return torch.stack(losses).mean()


def _trainable(probe: Probe, lm: LanguageModel, config: TrainConfig) -> Probe:
    """A copy whose tensors ask for gradients; offsets, where they are learned, start at zero."""
    embeddings = probe.embeddings.to(lm.device, copy=True).requires_grad_()
    if config.capacity == "embeddings":
        return Probe(embeddings)
    sizes = lm.geometry
    shape = (sizes.layers, sizes.heads, config.n, sizes.head_dim)
    return Probe(embeddings, torch.zeros(shape, device=lm.device, requires_grad=True))


def initial_tokens(lm: LanguageModel, config: TrainConfig, lessons: Store) -> SoftTokens:
    """Where a run starts: embeddings of tokens drawn from the model's own responses."""
    responses = lessons.response_ids(range(min(len(lessons), 256)))
    generator = torch.Generator().manual_seed(config.seed)
    drawn = responses[torch.randint(len(responses), (config.n,), generator=generator)]
    return SoftTokens.initialise(lm, drawn)


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to 0."""
    warmup = max(1, round(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
