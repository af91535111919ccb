"""A training: responses, soft tokens, memory tokens after them, and what is saved at the end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from judgeq._version import __version__
from judgeq.data.example import Source
from judgeq.data.mixture import parse_sources, report
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.output import check_folder, saved, saving
from judgeq.soft_tokens.soft_tokens import FILES, SoftTokens, saved_before
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.training.budget_profile import learn_profile
from judgeq.training.config import STORE_GB, TrainConfig
from judgeq.training.curve import CURVES, write_curve
from judgeq.training.examples import TrainingExample, prompt_rows
from judgeq.training.memory_tokens import MemoryRun
from judgeq.training.objectives import NEED_VALUES, OBJECTIVES
from judgeq.training.optimization import Run, Setting
from judgeq.training.progress import Progress
from judgeq.training.store import Store, check_store, is_store
from judgeq.training.trainable import (
    attention_to_examples,
    check_one_device,
    earlier_tokens,
    finished,
    held_out_hit_rates,
    initial_tokens,
    let_gradients_through,
    parameter_groups,
    trainable,
)
from judgeq.training.workers import Workers

CHECKPOINT, MEMORY_CHECKPOINT = "checkpoint.safetensors", "memory_checkpoint.safetensors"
HISTORY = "history.json"
STORE = "store"
WRITTEN = (*FILES, HISTORY, *CURVES, CHECKPOINT, MEMORY_CHECKPOINT, STORE)
"""What a run writes into its folder."""


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
    """Train soft tokens for `lm`, and memory tokens if the recipe has some, and save them in `out`, with a budget
    profile and the curve of the run.

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
    if not resume and any((out / name).exists() for name in (CHECKPOINT, MEMORY_CHECKPOINT)):
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
    setting = Setting(lm, config, train_set, held_out_set, workers)
    run = SoftTokenRun(setting, out / CHECKPOINT)
    run.finish(progress)
    weights, memory = run.weights, None
    if config.memory:
        memory = MemoryRun(setting, out / MEMORY_CHECKPOINT, finished(weights), run.initial.weights)
        memory.finish(progress)
        weights = memory.weights
    profile = learn_profile(train_set)
    tokens = SoftTokens(finished(weights), _origin(run, memory, time.perf_counter() - started), profile)
    if workers.rank == 0:
        with saving(out, WRITTEN, _before(out), shared=True) as part:
            tokens.write_files(part)
            (part / HISTORY).write_text(json.dumps(run.history) + "\n", encoding="utf-8")
            write_curve(run.history, part)
        for name in (CHECKPOINT, MEMORY_CHECKPOINT):
            (out / name).unlink(missing_ok=True)
        if remove_store:
            held_out_set.remove()
            train_set.remove()
    workers.wait()
    return tokens


def check_folders(out: str | Path, store: str | Path) -> None:
    """Refuse, with an `InputError`, folders that cannot be written or hold files that judgeq has not written."""
    inside = is_store(Path(store)) and Path(store).resolve().is_relative_to(Path(out).resolve())
    check_folder(out, WRITTEN, _before(Path(out)), shared=inside)
    check_store(store)


def _before(out: Path) -> list[str]:
    """What an earlier run, finished or interrupted, left in its folder."""
    ours = [*saved_before(out), *([STORE] if is_store(out / STORE) else [])]
    for name in (CHECKPOINT, MEMORY_CHECKPOINT):
        with contextlib.suppress(OSError, SafetensorError), safe_open(out / name, framework="pt") as file:
            ours += [name] if "recipe" in (file.metadata() or {}) else []
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, IndexError):
        history = json.loads(saved(out, HISTORY).read_text(encoding="utf-8"))
        ours += [HISTORY, *CURVES] if "loss" in history[0] else []
    return ours


class SoftTokenRun(Run):
    """The soft tokens, by an objective of their attention.

    Attributes:
        initial: where they start.
        weights: their tensors as they are now.
    """

    phase = "training"

    def __init__(self, setting: Setting, checkpoint: Path) -> None:
        self.initial = initial_tokens(setting.lm, setting.config, setting.train_set)
        self.weights = trainable(self.initial.weights, setting.lm, setting.config)
        groups = parameter_groups(self.weights, setting.config)
        super().__init__(setting, checkpoint, groups, setting.config.epochs)

    def losses(self, examples: Sequence[TrainingExample]) -> Tensor:
        return example_losses(self.lm, self.weights, examples, self.config)

    def measured(self) -> dict[str, float]:
        return held_out_hit_rates(self.lm, self.weights, self.held_out_set, self.workers)


def _origin(soft: SoftTokenRun, memory: MemoryRun | None, seconds: float) -> Any:
    """The config of the finished soft tokens, with recipe and figures."""
    config, started_from = soft.config, soft.initial.config
    loss = soft.last_loss()
    metrics = dict(started_from.metrics) if not loss else {}
    metrics |= {f"training_{config.objective}": round(loss["loss"], 4)} if loss else {}
    metrics |= {"seconds_of_last_run": round(seconds, 1)} | soft.held_out()
    if memory is not None:
        metrics |= {"training_divergence": round(memory.last_loss()["loss"], 4)} | memory.held_out()
    recipe = config.to_dict()
    if Path(config.start).exists():
        recipe["start"] = Path(config.start).resolve().name  # the path is private
    return dataclasses.replace(
        started_from,
        recipe=recipe,
        earlier=[*started_from.earlier, started_from.recipe] if started_from.recipe else [],
        metrics=metrics,
        memory=config.memory,
        judgeq_version=__version__,
    )


def example_losses(
    lm: LanguageModel, weights: SoftTokenTensors, examples: Sequence[TrainingExample], config: TrainConfig
) -> Tensor:
    """Objective of soft tokens on examples in one pass, averaged over layers: (examples,).

    Differentiable in `weights`.
    """
    objective, rows = OBJECTIVES[config.objective], prompt_rows(lm, examples)
    attention = attention_to_examples(lm, weights, examples, rows)
    teachers = (example.teacher.to(lm.device, torch.float32) for example in examples)
    needed = config.objective in NEED_VALUES
    values = [each for part in rows for each in part.values] if needed else [None] * len(examples)
    each = zip(attention, teachers, values, strict=True)
    return torch.stack([objective(*tensors, config.temper) for tensors in each])
