"""Training as a person starts it: killed in every phase and resumed, and by two processes at once."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from judgeq.models.language_model import LanguageModel
from tests.forks import as_launched, ended, judgeq, started

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
    return ["train", *data, "--out", str(folder / out), *RECIPE, *more]


def trained(folder: Path, out: str) -> dict[str, torch.Tensor]:
    return load_file(folder / out / "soft_tokens.safetensors")


@pytest.fixture(scope="module")
def straight(folder: Path) -> dict[str, torch.Tensor]:
    """What an uninterrupted run gives."""
    assert ended(started(judgeq, command(folder, "straight"))) == [0]
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
    process = started(judgeq, command(folder, out.name))
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
    assert any(is_killed(folder, out, PHASES[phase]) for _ in range(20)), "it always ended before it was killed"
    assert not (out / "judgeq_config.json").exists()
    assert ended(started(judgeq, command(folder, out.name, "--resume"))) == [0]
    resumed = trained(folder, out.name)
    assert resumed.keys() == straight.keys()
    for name, tensor in straight.items():
        assert torch.equal(resumed[name], tensor), name


def test_two_processes_train_the_same_soft_tokens(folder: Path, straight: dict[str, torch.Tensor]) -> None:
    assert ended(*[started(judgeq, command(folder, "two"), each) for each in as_launched(2)]) == [0, 0]
    together = trained(folder, "two")
    for name, tensor in straight.items():
        assert torch.allclose(together[name].float(), tensor.float(), atol=5e-2, rtol=5e-2), name
    histories = [json.loads((folder / out / "history.json").read_text()) for out in ("two", "straight")]
    assert len(histories[0]) == len(histories[1]) == 60
    for ours, theirs in zip(*histories, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=2e-2)
