"""`python -m benchmarks.cpu`: a row for each number type and layout, and llama.cpp in an environment of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from benchmarks import llama_speed
from benchmarks.cpu import main
from tests.fixtures import build_model

SHORT = ["--prompt-tokens", "70", "--decode-tokens", "2", "--budget", "40", "--rounds", "1"]


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> str:
    build_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize(("words", "first"), [(SHORT, "float32, full"), (["--products"], "plain copy")])
def test_every_number_type_and_layout_has_a_row(model: str, words: list[str], first: str, tmp_path: Path) -> None:
    target = tmp_path / "cpu.json"
    assert main(["--model", model, *words, "--json", str(target)]) == 0
    written: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    labels = [row["label"] for row in written["rows"]]
    assert labels[0] == first
    assert len(set(labels)) == len(labels)
    assert {label.partition(",")[0] for label in labels} >= {"float32", "bfloat16"}
    assert all(row.get("seconds", row.get("token_s")) > 0 for row in written["rows"])
    assert written["command"].startswith("python -m benchmarks.cpu --model")


@pytest.mark.parametrize(
    ("python", "name", "said"),
    [
        (sys.executable, "some.gguf", "has no llama.cpp: install it there with"),
        ("/no/python", "some.gguf", "is not a working Python"),
        (sys.executable, "config.json", "llama.cpp reads GGUF files"),
    ],
)
def test_what_llama_cpp_needs_is_said(
    model: str, python: str, name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.touch()
    if said.startswith("has no") and llama_speed.find_spec("llama_cpp"):
        pytest.skip("this Python has it")
    assert main(["--model", str(path), "--python", python, *SHORT]) == 2
    assert said in capsys.readouterr().err


def test_the_time_of_every_token_is_taken() -> None:
    class Model:
        def reset(self) -> None:
            pass

        def generate(self, ids: list[int], **_: float) -> Any:
            while True:
                yield ids[0]

    ticks = iter([0.0, 5.0, 6.0, 8.0, 11.0])
    assert llama_speed.take(Model(), ticks.__next__, ids=[1], tokens=3) == {"first_s": 5.0, "token_s": 2.0}
