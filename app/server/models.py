"""Which models a machine can run, and the exchange of the one that all visitors share. Knows nothing of Gradio."""

from __future__ import annotations

import importlib.util
import os
import shlex
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil
import torch

from app import text
from app.server.host import ModelHost
from judgeq.errors import InputError, JudgeqError
from judgeq.estimate import Memory, estimate
from judgeq.look.format import size
from judgeq.methods import METHODS, question_methods, title_of
from judgeq.models.embedded import EMBEDDED
from judgeq.models.shapes import config_of_shape
from judgeq.models.supported import QUANTIZATIONS
from judgeq.soft_tokens import hub

KNOWN = {
    "meta-llama/Llama-3.2-1B-Instruct": "llama-3.2-1b",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "smollm2-1.7b",
    "Qwen/Qwen3-1.7B": "qwen3-1.7b",
    "Qwen/Qwen3-4B": "qwen3-4b",
    "mistralai/Mistral-7B-Instruct-v0.3": "mistral-7b-v0.3",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "Qwen/Qwen3-8B": "qwen3-8b",
}
"""Hub ids whose sizes are known here, the smallest first."""
PROMPT_TOKENS = 4_096
"""Of a prompt that has to fit, too, with all of its rows."""
NO_METHODS = ("full", "random", "oracle")
"""To compare with: they save nothing, know nothing, or have to know the answer."""


@dataclass(frozen=True)
class Machine:
    """What there is to run a model on.

    Attributes:
        gpu: its name; None = there is none.
        memory: bytes that are free now, of the GPU where there is one.
        cores: of the processor.
    """

    gpu: str | None
    memory: int
    cores: int

    @classmethod
    def here(cls) -> Machine:
        """This one."""
        cores = os.cpu_count() or 1
        if torch.cuda.is_available():
            return cls(torch.cuda.get_device_name(), torch.cuda.mem_get_info()[0], cores)
        return cls(None, psutil.virtual_memory().available, cores)

    def __str__(self) -> str:
        memory = size(self.memory)
        if self.gpu:
            return text.MACHINE_GPU.format(gpu=self.gpu, memory=memory)
        return text.MACHINE_CPU.format(cores=self.cores, memory=memory)


def precisions() -> list[str | None]:
    """What `judgeq.load` takes as quantization here: None, and what bitsandbytes can do where it is installed."""
    return [None, *(QUANTIZATIONS if importlib.util.find_spec("bitsandbytes") else ())]


def choices(machine: Machine, own: Sequence[str]) -> list[tuple[str, str]]:
    """Names to offer with their titles: the operator's own, embedded ones, and known ones that would fit."""
    offered = [(name, name) for name in dict.fromkeys([*own, *EMBEDDED])]
    for name, shape in KNOWN.items():
        sizes = {bits: _memory(shape, bits, machine.gpu is not None) for bits in precisions()}
        fitting = [
            f"{size(found.weights)} {text.PRECISIONS_SAID[bits]}"
            for bits, found in sizes.items()
            if found.weights + (found.reading_full or 0) < machine.memory
        ]
        if fitting and name not in own:
            offered.append((f"{name} ({', '.join(fitting)})", name))
    return offered


def at_once(name: str, trains: bool) -> tuple[str, str]:
    """What works with a model as soon as it is loaded, and the command that trains a judge for it, if there is none.

    Args:
        trains: the page has a section that does the same.
    """
    if name in EMBEDDED:
        return text.MODELS_JUDGED, ""
    without = (each for each in question_methods() if not METHODS[each].needs_soft_tokens)
    said = text.MODELS_AT_ONCE.format(methods=text.join([title_of(each) for each in without if each not in NO_METHODS]))
    command = ["python", "-m", "judgeq", "train", "--model", name, "--out", f"judges/{Path(name).name}"]
    return f"{said} {text.MODELS_TRAIN_HERE if trains else text.MODELS_TRAIN}", shlex.join(command)


def check_name(name: str, own: Sequence[str]) -> str:
    """A name that may be loaded here: the operator's own, an embedded one, or a Hub id; never a path.

    Raises:
        InputError: anything else.
    """
    name = (name or "").strip()
    if name not in (*own, *EMBEDDED) and (not hub.is_hub_id(name) or Path(name).exists()):
        raise InputError(text.NO_HUB_ID.format(name=name[:100]))
    return name


class Switch:
    """The exchange of the model, in a thread of its own, so that a page can show its progress.

    Attributes:
        error: why the old model is still there.
        finished: set at the end, however it came.
    """

    def __init__(self, host: ModelHost, name: str, quantization: str | None) -> None:
        self.error: JudgeqError | None = None
        self.finished = threading.Event()
        self._cancel = threading.Event()
        self._host, self._name, self._quantization = host, name, quantization
        threading.Thread(target=self._work, name="judgeq-switch", daemon=True).start()

    def cancel(self) -> None:
        """Give up waiting for a turn; loading that has begun continues."""
        self._cancel.set()

    def _check(self) -> None:
        if self._cancel.is_set():
            raise InputError(text.SWITCH_STOPPED)

    def _work(self) -> None:
        try:
            self._host.switch(self._name, self._quantization, self._check)
        except JudgeqError as error:
            self.error = error
        finally:
            self.finished.set()


@cache
def _memory(shape: str, quantization: str | None, gpu: bool) -> Memory:
    """What a model takes as `judgeq.load` would load it, with a prompt."""
    dtype = "bfloat16" if gpu else "float32"
    return estimate(
        config_of_shape(shape), prompt_tokens=PROMPT_TOKENS, budget=1, dtype=dtype, quantization=quantization
    )
