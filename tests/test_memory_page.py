"""docs/memory.md: its code runs as it stands there, and its sizes are what rows take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import judgeq
from judgeq.cache import storage_bytes
from judgeq.cli import main
from judgeq.language_model import LanguageModel
from judgeq.ragged import FrozenRows
from judgeq.soft_tokens import SoftTokens

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "memory.md").read_text(encoding="utf-8")


def test_its_code_runs_and_does_what_it_says(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soft = SoftTokens.initialise(lm, torch.arange(40, 44))
    monkeypatch.setattr(judgeq, "load", lambda name: lm)
    monkeypatch.setattr(SoftTokens, "for_model", lambda lm: soft)
    monkeypatch.setitem(lm.__dict__, "eos_ids", frozenset())  # random models stop anywhere
    names: dict = {}
    for code in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(code, names)
    answer = names["answer"]
    assert answer.finish == "length"
    assert all(len(rows) <= 48 + 64 for layer in answer.held for rows in layer)
    assert len(names["survivors"]) == 2
    assert all(rows.min() >= 0 and rows.max() == 198 for rows in names["survivors"])
    assert names["plain"].kv_bytes > 3 * names["small"].kv_bytes
    assert capsys.readouterr().out


def test_its_sizes_are_those_of_the_tensors() -> None:
    shown = re.findall(
        r"^\| (float32|16 bits|8 bits|4 bits) \| (\d+) \| ([\d.]+) \| ([\d.]+|–) \|$", PAGE, re.MULTILINE
    )
    rows = torch.randn(320, 64)
    stored = {
        "float32": FrozenRows.of_heads([(rows, rows)]),
        "16 bits": FrozenRows.of_heads([(rows.half(), rows.half())]),
        **{f"{bits} bits": FrozenRows.of_heads([(rows, rows)], bits) for bits in (8, 4)},
    }
    assert [line[0] for line in shown] == list(stored)
    for name, size, smaller, half in shown:
        (taken, left) = divmod(storage_bytes(stored[name].tensors()), 320)
        assert (taken, left) == (int(size), 0)
        assert float(smaller) == round(512 / taken, 1)
        assert half == "–" or float(half) == round(256 / taken, 1)


@pytest.mark.parametrize("command", re.findall(r"^python -m judgeq (.*)$", PAGE, re.MULTILINE))
def test_its_commands_are_understood(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(option in shown for option in re.findall(r"--[\w-]+", command))
