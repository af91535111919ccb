"""Training soft tokens for the loaded model, in a run: what it will take, how far it is, and the result in use.

A run that is stopped, or whose process ends, is resumed by the next one with the same recipe and folder. Knows nothing
of Gradio.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import psutil
import torch
from safetensors import SafetensorError, safe_open

from app.server.host import ModelHost
from app.server.run import Run
from app.server.task import Task
from judgeq.commands.train import QUICK
from judgeq.data.mixture import parse_sources
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.models.memory import peak_memory, weight_bytes
from judgeq.training.bench import step_times
from judgeq.training.config import TrainConfig
from judgeq.training.progress import Progress
from judgeq.training.store import Store
from judgeq.training.train import CHECKPOINT, STORE, train

RECIPES = {"quick": TrainConfig.from_dict(QUICK), "full": TrainConfig()}


@dataclass(frozen=True)
class TrainTask(Task):
    """A training; no field of a question is used.

    Attributes:
        recipe: how soft tokens are trained.
        folder: where they, the store and the checkpoint lie.
        only_estimate: measure one example and say what all of them will take.
    """

    document: str = ""
    question: str = ""
    methods: tuple[str, ...] = ()
    recipe: TrainConfig = RECIPES["quick"]
    folder: Path = Path()
    only_estimate: bool = False


@dataclass(frozen=True)
class Needs:
    """What a training will take, calculated from one example that was measured here.

    Attributes:
        seconds: of the whole training; answers, which are written side by side, may take less.
        memory: bytes, the model's weights included.
        disk: bytes of the store, at most.
        free_memory, free_disk: bytes that there are; the memory with what the model occupies already.
    """

    seconds: float
    memory: int
    disk: int
    free_memory: int
    free_disk: int


@dataclass
class Followed(Progress):
    """Writes a training's progress into its run, which can stop it there."""

    run: TrainRun
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, phase: str, done: int, total: int, **figures: float) -> None:
        run = self.run
        run.step = phase, done, total
        if "loss" in figures and done:
            known: dict[str, float] = {}
            for entry in run.history:
                known |= entry
            measured = any(known.get(name) != value for name, value in figures.items() if name != "loss")
            run.history[done - 1 :] = [dict(figures) if measured else {"loss": figures["loss"]}]
        run.phase = "writing"
        run._check()


class TrainRun(Run[TrainTask]):
    """A training in its own thread; it has the model to itself, and no limit of time.

    Attributes:
        step: what is done, how many of it, of how many.
        history: of all steps so far, see `judgeq.training.optimization.Run.history`.
        needs: the estimate, once it is known.
    """

    REPORTED: ClassVar[tuple[str, ...]] = ("phase",)

    def __init__(self, task: TrainTask, host: ModelHost) -> None:
        super().__init__(task, host)
        self.step = ("", 0, 0)
        self.history: list[dict[str, float]] = []
        self.needs: Needs | None = None

    @property
    def stopped(self) -> bool:
        """It was asked to stop, and may still be at its last step."""
        return self._cancel.is_set()

    def answering(self, lm: LanguageModel) -> Generator[None, None, None]:
        """See `Run`; every example and step comes up for air."""
        task, self._end = self.task, float("inf")
        if task.only_estimate:
            self.needs = needs_of(lm, task.recipe, task.folder)
            return
        self.history = history_of(task.folder)
        train(lm, task.recipe, task.folder, progress=Followed(self))
        self.host.use_tokens(task.folder)
        yield


def folder_named(parent: Path, name: object, lm: str) -> Path:
    """A folder of trained soft tokens in `parent`; without a name that of the model.

    Raises:
        InputError: a name that is none of letters, digits, dots, dashes and underscores.
    """
    given = name.strip() if isinstance(name, str) else ""
    given = given or re.sub(r"[^\w.-]+", "-", lm).strip(".-")
    if not re.fullmatch(r"\w[\w.-]{0,99}", given):
        raise InputError(
            f"{given[:60]!r} cannot name a folder here: use at most 100 letters, digits, dots, dashes and underscores, "
            "a letter or digit first"
        )
    return parent / given


def history_of(folder: Path) -> list[dict[str, float]]:
    """What an interrupted run in this folder has done."""
    try:
        with safe_open(folder / CHECKPOINT, framework="pt") as file:
            return json.loads(file.metadata()["history"])
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return []


def needs_of(lm: LanguageModel, recipe: TrainConfig, folder: Path) -> Needs:
    """Measure one example of a middling length on this machine, and calculate what all of them take."""
    counts = recipe.examples, recipe.held_out
    sources = parse_sources(recipe.data), parse_sources(recipe.data, part="held_out")
    rows = lm.device.type == "cpu"
    stores = [
        Store(folder / STORE, lm, recipe, source, count, rows) for source, count in zip(sources, counts, strict=True)
    ]
    lengths = [len(prompt) for prompt in stores[0].prompts]
    with peak_memory(lm.device) as peak:
        (times,) = step_times([lm], recipe, sum(lengths) // len(lengths), 1)
    sizes, weights = lm.geometry, weight_bytes(lm.model)
    batch = (recipe.batch - 1) * sizes.complete_rows(max(lengths)) * sizes.row_bytes(lm.dtype.itemsize)
    gpu = lm.device.type == "cuda"
    free = torch.cuda.mem_get_info()[0] if gpu else psutil.virtual_memory().available
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    return Needs(
        seconds=sum(counts) * times.answer
        + recipe.epochs * recipe.examples * (times.stored if rows else times.recomputed),
        memory=weights + (peak.bytes or 0) + batch,
        disk=sum(each.expected_bytes for each in stores),
        free_memory=free + weights,
        free_disk=shutil.disk_usage(there).free,
    )
