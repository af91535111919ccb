"""The training loop: prompt rows, `n` tokens forward, gradients to the soft tokens alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from judgeq._version import __version__
from judgeq.data.example import Source
from judgeq.data.mixture import parse_sources, report
from judgeq.errors import InputError, JudgeqError
from judgeq.inference.prefill_batch import group_by_length
from judgeq.models.language_model import LanguageModel
from judgeq.output import check_folder, replacing, saved, saving
from judgeq.soft_tokens.soft_tokens import FILES, SoftTokens, saved_before
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.training.config import STORE_GB, TrainConfig
from judgeq.training.curve import CURVES, write_curve
from judgeq.training.examples import PromptRows, TrainingExample
from judgeq.training.objectives import NEED_VALUES, OBJECTIVES
from judgeq.training.profile import learn_profile
from judgeq.training.progress import Progress
from judgeq.training.store import Store, check_store, is_store
from judgeq.training.trainable import (
    attention_to_examples,
    check_one_device,
    earlier_tokens,
    finished,
    initial_tokens,
    let_gradients_through,
    parameter_groups,
    trainable,
)
from judgeq.training.validation import held_out_hit_rates
from judgeq.training.workers import Workers

CHECKPOINT = "checkpoint.safetensors"
HISTORY = "history.json"
STORE = "store"
WRITTEN = (*FILES, HISTORY, *CURVES, CHECKPOINT, STORE)
"""What a run writes into its folder."""
CHECKPOINT_STEPS = 20
WARMUP_SHARE = 0.05
EVALUATIONS = 6  # times that the held-out hit rate is measured, the last time at the end
MAX_LENGTH_RATIO = 2.0  # how many times the shortest prompt of a pass the longest may be


def train(
    lm: LanguageModel,
    config: TrainConfig,
    out: Path,
    *,
    store: Path | None = None,
    store_gb: float = STORE_GB,
    source: Source | None = None,
    held_out: Source | None = None,
    resume: bool = True,
    keep_rows: bool | None = None,
    remove_store: bool = False,
    progress: Progress | None = None,
) -> SoftTokens:
    """Train soft tokens for `lm` and save them in `out`, with a budget profile and the curve of the run.

    An interrupted run with the same arguments resumes from its last finished batch of responses or its last
    checkpoint, and ends with the same soft tokens. Under `accelerate launch` all processes share the work.

    Args:
        out: folder for the soft tokens, `history.json`, `curve.html`, `curve.png` and, while it runs, the checkpoint;
            they take the places of an earlier run's when the training is finished.
        store: folder of teacher attention and prompt rows; `out/store` by default.
        store_gb: largest size of that folder, in gigabytes.
        source: prompts to train on; those that `config.data` names by default.
        held_out: prompts to measure on; the held-out part of `config.data` by default.
        resume: continue what an interrupted run left in `out`; without it, such a folder is rejected.
        keep_rows: keep the prompts' rows in that folder; otherwise every step reads its prompts again. By default they
            are kept on a CPU alone, since a GPU reads a prompt faster than a disk gives its rows.
        remove_store: delete that folder when the soft tokens are saved.
        progress: gets every batch and step.

    Raises:
        InputError: `out` or the store holds a checkpoint or rows of another recipe, or files that judgeq has not
            written; the data are too few, or the store too large.
        ModelError: the model evicts nothing.
        JudgeqError: the loss has become NaN.
    """
    started = time.perf_counter()
    folder = store or out / STORE
    check_folders(out, folder)
    workers, progress = Workers(), progress or Progress()
    lm.check_evicts()
    check_one_device(lm)
    let_gradients_through(lm)
    earlier_tokens(lm, config)  # fail before the responses are generated
    if not resume and (out / CHECKPOINT).exists():
        raise InputError(f"{out} holds an interrupted run: add --resume to continue it, or use another --out")
    if workers.rank == 0:
        out.mkdir(parents=True, exist_ok=True)
    source = source or parse_sources(config.data)
    rows = lm.device.type == "cpu" if keep_rows is None else keep_rows
    train_set = Store(folder, lm, config, source, config.examples, rows)
    train_set.fill(progress, workers, store_gb)
    if left_out := report(source):
        progress.note(left_out)
    unseen = held_out or parse_sources(config.data, part="held_out")
    held_out_set = Store(folder / "held_out", lm, config, unseen, config.held_out, rows)
    held_out_set.fill(progress, workers, store_gb, phase="held-out responses")
    run = _Run(lm, config, train_set, held_out_set, workers, out / CHECKPOINT)
    run.finish(progress)
    profile = learn_profile(train_set)
    tokens = SoftTokens(finished(run.probe), run.origin(time.perf_counter() - started), profile)
    if workers.rank == 0:
        with saving(out, WRITTEN, _before(out), shared=True) as part:
            tokens.write_files(part)
            (part / HISTORY).write_text(json.dumps(run.history) + "\n", encoding="utf-8")
            write_curve(run.history, part)
        (out / CHECKPOINT).unlink(missing_ok=True)
        if remove_store:
            held_out_set.remove()
            train_set.remove()
    workers.wait()
    return tokens


def check_folders(out: str | Path, store: str | Path) -> None:
    """Reject folders that cannot be written, before anything else is done.

    Raises:
        InputError: one cannot be written, or holds files that judgeq has not written.
    """
    inside = is_store(Path(store)) and Path(store).resolve().is_relative_to(Path(out).resolve())
    check_folder(out, WRITTEN, _before(Path(out)), shared=inside)
    check_store(store)


def _before(out: Path) -> list[str]:
    """What an earlier run, finished or interrupted, left in its folder."""
    ours = [*saved_before(out), *([STORE] if is_store(out / STORE) else [])]
    with contextlib.suppress(OSError, SafetensorError), safe_open(out / CHECKPOINT, framework="pt") as file:
        ours += [CHECKPOINT] if "recipe" in (file.metadata() or {}) else []
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, IndexError):
        history = json.loads(saved(out, HISTORY).read_text(encoding="utf-8"))
        ours += [HISTORY, *CURVES] if "loss" in history[0] else []
    return ours


class _Run:
    """State of one optimization: the probe, Adam, the history so far, and their checkpoint.

    `history` has one entry a step: `loss`, and every few steps the held-out hit rates.
    """

    def __init__(
        self,
        lm: LanguageModel,
        config: TrainConfig,
        train_set: Store,
        held_out_set: Store,
        workers: Workers,
        checkpoint: Path,
    ) -> None:
        self.lm, self.config, self.train_set, self.held_out_set = lm, config, train_set, held_out_set
        self.workers, self.checkpoint = workers, checkpoint
        self.initial = initial_tokens(lm, config, train_set)
        self.probe = trainable(self.initial.probe, lm, config)
        self.adam = torch.optim.Adam(parameter_groups(self.probe, config))
        self.history: list[dict[str, float]] = []
        if checkpoint.exists():
            self._restore()

    @property
    def steps(self) -> int:
        """Optimization steps of the whole run."""
        return self.config.epochs * math.ceil(len(self.train_set) / self.config.accumulate)

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
                entry |= held_out_hit_rates(self.lm, self.probe, self.held_out_set, self.workers)
            self.history.append(entry)
            if (step + 1) % CHECKPOINT_STEPS == 0 and self.workers.rank == 0:
                self._save()
            progress.advance("training", step + 1, self.steps, **self._latest())

    def origin(self, seconds: float) -> Any:
        """The config of the finished soft tokens, with recipe and figures."""
        epoch = self.history[-max(1, len(self.history) // self.config.epochs) :]
        loss = sum(entry["loss"] for entry in epoch) / len(epoch)
        metrics = {
            f"training_{self.config.objective}": round(loss, 4),
            "seconds_of_last_run": round(seconds, 1),
        }
        rates = {f"held_out_{name}": value for name, value in self._latest().items() if name != "loss"}
        recipe, started_from = self.config.to_dict(), self.initial.config
        if Path(self.config.start).exists():
            recipe["start"] = Path(self.config.start).resolve().name  # the path is private
        return dataclasses.replace(
            started_from,
            recipe=recipe,
            earlier=[*started_from.earlier, started_from.recipe] if started_from.recipe else [],
            metrics=metrics | rates,
            judgeq_version=__version__,
        )

    def _latest(self) -> dict[str, float]:
        """The last known value of every figure."""
        known: dict[str, float] = {}
        for entry in reversed(self.history):
            known = entry | known
            if len(entry) > 1:
                break
        return known

    def _order(self) -> list[list[int]]:
        """The examples of every step: a fresh shuffle each epoch, the same on every run."""
        size, steps = self.config.accumulate, []
        for epoch in range(self.config.epochs):
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
            loss = example_losses(self.lm, self.probe, examples, self.config).sum() / len(indices)
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
                self.adam.state[parameter] = {
                    "step": tensors[f"{at}.step"],  # is kept on the CPU
                    "exp_avg": tensors[f"{at}.exp_avg"].to(parameter.device),
                    "exp_avg_sq": tensors[f"{at}.exp_avg_sq"].to(parameter.device),
                }
        self.history = json.loads(meta["history"])


def passes(lm: LanguageModel, examples: Iterable[TrainingExample]) -> Iterable[Sequence[TrainingExample]]:
    """Examples in groups of one pass: one by one on a CPU, and where layers have a sliding window."""
    if lm.device.type == "cpu" or lm.geometry.sliding:
        return ((example,) for example in examples)
    found = list(examples)
    groups = group_by_length([len(example.prompt) for example in found], MAX_LENGTH_RATIO)
    return ([found[at] for at in group] for group in groups)


def example_losses(
    lm: LanguageModel, probe: SoftTokenTensors, examples: Sequence[TrainingExample], config: TrainConfig
) -> Tensor:
    """Objective of soft tokens on examples in one pass, averaged over layers: (examples,).

    Differentiable in the probe's tensors.
    """
    objective, rows = OBJECTIVES[config.objective], PromptRows(lm, examples)
    attention = attention_to_examples(lm, probe, examples, rows)
    teachers = (example.teacher.to(lm.device, torch.float32) for example in examples)
    values = rows.values if config.objective in NEED_VALUES else [None] * len(examples)
    each = zip(attention, teachers, values, strict=True)
    return torch.stack([objective(*tensors, config.temper) for tensors in each])


def _schedule(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then a cosine to 0."""
    warmup = max(1, round(steps * WARMUP_SHARE))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
