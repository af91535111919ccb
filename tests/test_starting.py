"""`python -m benchmarks.start`: every start is a process of its own, and the figures add up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from benchmarks.start import DEMO_PARTS, PARTS, demo, main, start
from judgeq.errors import InputError
from tests.fixtures import build_model


def test_a_model_that_cannot_be_loaded_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"it said: .*{tmp_path.name}"):
        start(name=str(tmp_path))


def test_a_demo_that_cannot_start_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"app\.py says why"):
        demo(model=str(tmp_path / "none"), host="256.0.0.1")


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
    assert all(seconds > 0 for seconds in start(name=str(model)).values())
    told = iter([(9, 9, 9), (1, 9, 4), (2, 8, 5)])
    pages = iter([(9, 9), (1, 3), (2, 4)])
    shown: list[dict[str, object]] = []
    monkeypatch.setattr(
        "benchmarks.start.start",
        lambda **words: asked.append(words) or dict(zip(PARTS, next(told), strict=True)),
    )
    monkeypatch.setattr(
        "benchmarks.start.demo",
        lambda **words: shown.append(words) or dict(zip(DEMO_PARTS, next(pages), strict=True)),
    )
    main(["--model", str(model), "--rounds", "2", "--demo", "--json", str(target)])
    written = json.loads(target.read_text(encoding="utf-8"))
    assert [each["name"] for each in asked] == [str(model)] * 3, "the first one is not counted"
    assert [list(each.values()) for each in written["rounds"]] == [[1, 9, 4], [2, 8, 5]]
    assert written["command"] == f"python -m benchmarks.start --model {model} --rounds 2 --demo"
    assert [each["model"] for each in shown] == [str(model)] * 3
    assert [list(each.values()) for each in written["demo_rounds"]] == [[1, 3], [2, 4]]
    said = "import torch 1.50 s, import judgeq after it 8.50 s, then load .* 4.50 s .medians of 2 starts"
    out = capsys.readouterr().out
    assert re.search(said, out)
    assert "page after 1.50 s, a question of one's own answered 3.50 s later" in out
