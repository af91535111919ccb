"""Training as a person starts it: killed in every phase and resumed, and by two processes at once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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
    return ["-m", "judgeq", "train", *data, "--out", str(folder / out), *RECIPE, *more]


def run(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


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
    process = subprocess.Popen(
        [sys.executable, *command(folder, out.name)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    while process.poll() is None and not reached(out):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


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
    launch = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu", "--num_machines", "1"]
    options = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    run([*launch, *options, *command(folder, "two")])
    together = trained(folder, "two")
    for name, tensor in straight.items():
        assert torch.allclose(together[name].float(), tensor.float(), atol=5e-2, rtol=5e-2), name
    histories = [json.loads((folder / out / "history.json").read_text()) for out in ("two", "straight")]
    assert len(histories[0]) == len(histories[1]) == 60
    for ours, theirs in zip(*histories, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2)
