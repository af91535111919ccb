"""kvpress as a contender of the speed bench: it waits in an environment of its own until it is its turn."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from judgeq.config import Budget
from judgeq.errors import InputError
from judgeq.evaluation import kvpress_speed
from judgeq.evaluation.speed import StepTiming

KVPRESS = "kvpress==0.5.5"
"""The version that is compared with."""
SNAPKV, ALONE = "kvpress snapkv", "kvpress' transformers"
"""Methods: SnapKV as kvpress has it, and plain transformers in that environment."""


def not_a_python(python: str, error: OSError) -> InputError:
    """What to say where an interpreter cannot be started."""
    return InputError(
        f"{python} is not a working Python ({error.strerror}): give the one of the environment with kvpress"
    )


def failed(python: str, code: int, reason: str) -> InputError:
    """What to say of a process under that interpreter which ended with an exit code."""
    if code == kvpress_speed.NO_KVPRESS:
        return InputError(
            f"{python} has no kvpress: install it there with `{python} -m pip install {KVPRESS}`"
        )
    return InputError(
        f"kvpress under {python} failed ({reason}): install {KVPRESS} there, in a new environment"
    )


class Server:
    """`kvpress_speed.py`, or another script that answers line by line, under another Python.

    Attributes:
        about: the versions there.
    """

    def __init__(self, process: subprocess.Popen[str], python: str) -> None:
        self._process, self._python = process, python
        self.about: dict[str, str] = self._answer()

    def ask(self, **request: Any) -> Any:
        """One request and its answer.

        Raises:
            InputError: it has failed.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # if it has ended, there is no answer either
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line:
            return json.loads(line)
        code = self._process.wait()
        raise failed(self._python, code, f"exit code {code}; its output is above")


@contextmanager
def serving(python: str, folder: Path, script: str = kvpress_speed.__file__) -> Iterator[Server]:
    """Start it; it ends with the block.

    Args:
        python: interpreter of the environment with kvpress.
        folder: the model as transformers reads it.
        script: what is run there, with the folder and a number of threads.

    Raises:
        InputError: there is no such Python, kvpress is not installed there, or fails.
    """
    command = [python, "-I", script, str(folder.resolve()), str(torch.get_num_threads())]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
    except OSError as error:
        raise not_a_python(python, error) from None
    with process:
        try:
            yield Server(process, python)
        finally:
            process.kill()


@dataclass
class Peer:
    """SnapKV of kvpress, or transformers there.

    Attributes:
        rows: per KV head; 0 is transformers alone.
    """

    server: Server
    label: str
    method: str
    budget: Budget
    rows: int

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        rows = self.rows if self.rows < ids.shape[1] else 0  # the warm-up's prompt is short
        answer = self.server.ask(ids=ids[0].tolist(), budget=rows, tokens=tokens)
        return StepTiming(answer["first_s"], answer["token_s"])
