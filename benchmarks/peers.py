"""Other packages beside this one: each waits in an environment of its own until it is its turn."""

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

from judgeq.errors import InputError
from judgeq.models.embedded import EMBEDDED, embedded_model_path

NOT_INSTALLED = 3
"""Exit code of a script whose Python does not have the package."""


@dataclass(frozen=True)
class Package:
    """What is compared with, and what to say where it does not run.

    Attributes:
        requirement: as pip takes it, with the version that is compared with.
        advice: how to install one that fails.
    """

    name: str
    requirement: str
    advice: str

    def not_a_python(self, python: str, error: OSError) -> InputError:
        """Its interpreter cannot be started."""
        project = self.requirement.partition("==")[0]
        return InputError(
            f"{python} is not a working Python ({error.strerror}): give the one of the environment with {project}"
        )

    def failed(self, python: str, code: int, reason: str) -> InputError:
        """A script under that interpreter has ended with an exit code."""
        if code == NOT_INSTALLED:
            install = f"{python} -m pip install {self.requirement}"
            return InputError(f"{python} has no {self.name}: install it there with `{install}`")
        return InputError(f"{self.name} under {python} failed ({reason}): {self.advice}")


KVPRESS = Package("kvpress", "kvpress==0.5.5", "install kvpress==0.5.5 there, in a new environment")
LLAMA = Package(
    *("llama.cpp", "llama-cpp-python"),
    "build it there without options of this CPU, with CMAKE_ARGS=-DGGML_NATIVE=OFF",
)


def model_folder(model: str) -> Path:
    """Where a model's files are, for another environment to read; an `InputError` where they are not in a folder."""
    folder = embedded_model_path(model) if model in EMBEDDED else Path(model).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"Both sides read the same files and {model} is not a folder: give an embedded name, or a folder that "
            "`save_pretrained` wrote"
        )
    return folder


class Server:
    """A script that answers line by line, under another Python.

    Attributes:
        about: the versions there.
    """

    def __init__(self, package: Package, python: str, process: subprocess.Popen[str]) -> None:
        self._package, self._python, self._process = package, python, process
        self.about: dict[str, str] = self._answer()

    def ask(self, **request: Any) -> Any:
        """One request and its answer.

        Raises:
            InputError: it has failed.
        """
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # if it has ended, there is no answer either
                print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line:
            return json.loads(line)
        code = self._process.wait()
        raise self._package.failed(self._python, code, f"exit code {code}; its output is above")


@contextmanager
def serving(package: Package, python: str, script: str, model: str) -> Iterator[Server]:
    """Start a script with a model and as many threads as here; it ends with the block.

    Args:
        package: what the script needs.
        python: interpreter of the environment with it.

    Raises:
        InputError: there is no such Python, the package is not installed there, or fails.
    """
    command = [python, "-I", script, model, str(torch.get_num_threads())]
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    except OSError as error:
        raise package.not_a_python(python, error) from None
    with process:
        try:
            yield Server(package, python, process)
        finally:
            process.kill()
