"""Training as a person starts it: killed in every phase and resumed, and by two processes at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import load_file

from judgeq.models.language_model import LanguageModel

RECIPE = (
    "--examples 8 --response-tokens 8 --prefix-tokens 4 --batch 2 --n 4 --rank 2 --epochs 15 --accumulate 2 "
    "--held-out 2"
).split()
WORDS = "harbour ship gate captain lighthouse crew flag tide rope anchor barrel lantern".split()


pytestmark = pytest.mark.slow

LONGEST_S = 300
FORKS = multiprocessing.get_context("forkserver")
"""Starts processes that need not import PyTorch again."""
FORKS.set_forkserver_preload(
    ["judgeq.cli", "judgeq.training.train", "transformers.models.llama.modeling_llama"]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, make_lm: Callable[..., LanguageModel]) -> Path:
    """A tiny model, and a file of questions."""
    folder = tmp_path_factory.mktemp("processes")
    lm = make_lm()
    lm.model.save_pretrained(folder / "model")
    lm.tokenizer.save_pretrained(folder / "model")
    lines = [
        {
            "context": " ".join(WORDS[(at * step) % 12] for step in range(1, 60)),
            "question": f"What is number {at}?",
        }
        for at in range(60)
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def command(folder: Path, out: str, *more: str) -> list[str]:
    data = ["--model", str(folder / "model"), "--data", str(folder / "data.jsonl")]
    return ["train", *data, "--out", str(folder / out), *RECIPE, *more]


def started(words: list[str], environment: Mapping[str, object] = MappingProxyType({})) -> BaseProcess:
    process = FORKS.Process(
        target=_judgeq, args=(words, {name: str(environment[name]) for name in environment})
    )
    process.start()
    return process


def _judgeq(words: list[str], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    from judgeq.cli import main

    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    sys.exit(main(words))


def run(words: list[str]) -> None:
    process = started(words)
    process.join(LONGEST_S)
    assert process.exitcode == 0


def trained(folder: Path, out: str) -> dict[str, torch.Tensor]:
    return load_file(folder / out / "soft_tokens.safetensors")


@pytest.fixture(scope="module")
def straight(folder: Path) -> dict[str, torch.Tensor]:
    """What an uninterrupted run gives."""
    run(command(folder, "straight"))
    return trained(folder, "straight")


def examples(out: Path, part: str = "store") -> int:
    return len(list((out / part).glob("*.safetensors")))


PHASES: dict[str, Callable[[Path], bool]] = {
    "responses": lambda out: examples(out) >= 2,
    "held-out responses": lambda out: examples(out, "store/held_out") >= 1,
    "training": lambda out: (out / "checkpoint.safetensors").exists(),
}


def is_killed(folder: Path, out: Path, reached: Callable[[Path], bool]) -> bool:
    """Start a run and kill it as soon as it is there; False where a busy machine saw it too late."""
    shutil.rmtree(out, ignore_errors=True)
    process = started(command(folder, out.name))
    while process.is_alive() and not reached(out):
        time.sleep(0.002)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_run_goes_on_and_ends_with_the_same_soft_tokens(
    folder: Path, straight: dict[str, torch.Tensor], phase: str
) -> None:
    out = folder / phase.replace(" ", "-")
    assert any(is_killed(folder, out, PHASES[phase]) for _ in range(20)), (
        "it always ended before it was killed"
    )
    assert not (out / "judgeq_config.json").exists()
    run(command(folder, out.name, "--resume"))
    resumed = trained(folder, out.name)
    assert resumed.keys() == straight.keys()
    for name, tensor in straight.items():
        assert torch.equal(resumed[name], tensor), name


def test_two_processes_train_the_same_soft_tokens(folder: Path, straight: dict[str, torch.Tensor]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free.getsockname()[1], "WORLD_SIZE": 2}
    processes = [
        started(command(folder, "two"), {**where, "RANK": rank, "LOCAL_RANK": rank}) for rank in range(2)
    ]
    for process in processes:
        process.join(LONGEST_S)
        process.kill()
    assert [process.exitcode for process in processes] == [0, 0]
    together = trained(folder, "two")
    for name, tensor in straight.items():
        assert torch.allclose(together[name].float(), tensor.float(), atol=5e-2, rtol=5e-2), name
    histories = [json.loads((folder / out / "history.json").read_text()) for out in ("two", "straight")]
    assert len(histories[0]) == len(histories[1]) == 60
    for ours, theirs in zip(*histories, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2)
