"""Processes that need not import PyTorch again: forks of one that has, and that has done nothing else."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner

LONGEST_S = 500
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "accelerate.commands.launch",
        "ipykernel.kernelapp",
        "judgeq.cli",
        "judgeq.evaluation.runner",
        "judgeq.training.train",
        "transformers.models.llama.modeling_llama",
    ]
)


def started(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that runs `target(*arguments)`, which stands in a module of tests."""
    process = FORKS.Process(target=target, args=arguments)
    process.start()
    return process


def ended(*processes: BaseProcess) -> list[int | None]:
    """Their exit codes."""
    for process in processes:
        process.join(LONGEST_S)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def ran(words: list[str], environment: Mapping[str, str] = {}) -> tuple[int | None, str]:
    """The exit code of `python -m WORDS`, in this folder and with these variables changed, and all that was said."""
    with tempfile.TemporaryDirectory() as place:
        said = Path(place, "said.txt")
        (code,) = ended(started(_module, words, environment, said))
        return code, said.read_text(encoding="utf-8")


def _module(words: list[str], environment: Mapping[str, str], said: Path) -> None:
    with said.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def judgeq(words: list[str], environment: Mapping[str, str] = {}) -> None:
    """The command line in a process, which says nothing."""
    os.environ.update(environment)
    from judgeq.cli import main

    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    sys.exit(main(words))


def as_launched(count: int) -> list[dict[str, str]]:
    """The variables of processes that share their work, as `accelerate launch` sets them."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return [{**where, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


# Kernels of notebooks


def _kernel(words: list[str], environment: dict[str, str], folder: str) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # what it was before
    sys.argv = words
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance()
    atexit._run_exitfuncs()  # a fork leaves them out, and the browser that draws figures stays


class _Kernel:
    """A process as `subprocess.Popen` has them."""

    stdin = stdout = stderr = None

    def __init__(self, *arguments: Any) -> None:
        self.process = started(_kernel, *arguments)
        self.pid = self.process.pid or 0

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        return ended(self.process)[0]

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


class ForkedKernel(LocalProvisioner):
    """Starts kernels of Jupyter."""

    async def launch_kernel(self, cmd: list[str], **how: Any) -> dict[str, Any]:
        self.process = _Kernel(cmd[cmd.index("-f") - 1 :], how["env"], how["cwd"])
        self.pid, self.cwd = self.process.pid, how["cwd"]
        return self.connection_info
