"""`python -m benchmarks.start`: every start is a process of its own, and the figures add up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from benchmarks.start import Start, main, median_start, start
from judgeq.errors import InputError
from tests.conftest import build_model


def test_the_middle_is_taken_of_each_part() -> None:
    starts = [Start(torch_s=a, import_s=b, load_s=c) for a, b, c in [(1, 9, 5), (2, 8, 4), (3, 7, 6)]]
    assert median_start(starts) == Start(torch_s=2, import_s=8, load_s=5)


def test_a_model_that_cannot_be_loaded_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"it said: .*{tmp_path.name}"):
        start(name=str(tmp_path))


def test_the_command_writes_every_round(
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tmp_path / "model"
    build_model().save_pretrained(model)
    tokenizer.save_pretrained(model)
    target = tmp_path / "start.json"
    asked: list[dict[str, object]] = []
    measured = start(name=str(model))
    monkeypatch.setattr("benchmarks.start.start", lambda **words: asked.append(words) or measured)
    main(["--model", str(model), "--rounds", "2", "--json", str(target)])
    written = json.loads(target.read_text(encoding="utf-8"))
    assert [each["name"] for each in asked] == [str(model)] * 3, "the first one is not counted"
    assert [set(each) for each in written["rounds"]] == [{"torch_s", "import_s", "load_s"}] * 2
    assert all(each["load_s"] > 0 for each in written["rounds"])
    assert written["command"] == f"python -m benchmarks.start --model {model} --rounds 2"
    assert "medians of 2 starts" in capsys.readouterr().out
