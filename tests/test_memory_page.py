"""docs/memory.md: its code runs as it stands there, and its sizes are what rows take."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

import judgeq
from judgeq.cache.ragged import FrozenRows
from judgeq.cache.retained import storage_bytes
from judgeq.cli import main
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
RESULTS = ROOT / "assets" / "results"


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


BOUNDED = {
    ("`full`", "–"): "full",
    ("`judgeq`", "–"): "judgeq",
    ("`judgeq`", "64"): "judgeq_64",
    ("`judgeq`", "128"): "judgeq_128",
    ("`snapkv`", "64"): "snapkv_64",
    ("`h2o`", "64"): "h2o_64",
}


def table_after(mark: str) -> list[list[str]]:
    """The cells of the table behind a mark, without its head."""
    lines = PAGE.split(f"<!-- figures: {mark} -->\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_bounded_answers_took_the_bytes_of_their_files() -> None:
    files = {
        at: json.loads((RESULTS / f"bounded/{name}.json").read_text("utf-8")) for at, name in BOUNDED.items()
    }
    expected = [
        [*at, f"{each['kv_bytes'] / 1e6:.1f}", f"{each['kv_bytes_at_end'] / 1e6:.1f}"]
        for at, each in files.items()
    ]
    assert table_after("assets/results/bounded") == expected
    assert {(each["prompt_tokens"], each["finish"]) for each in files.values()} == {(1165, "length")}
    assert {each["budget"] for at, each in files.items() if at[0] != "`full`"} == {128}


SHARES = (0.025, 0.05, 0.1, 0.18, 0.32)
STORED = {
    "Judge Q, as they come": ["judgeq"],
    "Judge Q, in 8 bits": ["judgeq:bits=8"],
    "Judge Q, in 4 bits": ["judgeq:bits=4"],
    "SnapKV, as they come": ["snapkv"],
    "SnapKV, in 4 bits": ["snapkv:bits=4"],
    "all, in 8 or 4 bits": ["full:bits=4", "full:bits=8"],
}


@pytest.mark.parametrize("task", ["keys", "facts-led"])
def test_at_equal_bytes_the_answers_are_those_of_the_results_file(task: str) -> None:
    rows = [
        row
        for row in json.loads((RESULTS / "bits.json").read_text("utf-8"))["rows"]
        if row["task"] == f"{task}@1000"
    ]
    (full,) = [row for row in rows if row["method"] == "full"]
    assert {row["n"] for row in rows} == {16}

    def at(methods: list[str], share: float) -> str:
        """The score of the most rows that fit; none where they would leave much of the share unused."""
        parts = [
            (row["kv_bytes"] / full["kv_bytes"], row["score"]) for row in rows if row["method"] in methods
        ]
        part, score = max((each for each in parts if each[0] < share + 0.001), default=(0.0, 0.0))
        return f"{100 * score:.1f} %" if part > 0.8 * share else "–"

    expected = [[label, *(at(methods, share) for share in SHARES)] for label, methods in STORED.items()]
    last = ["all, as they come: 100 % of the bytes", f"{100 * full['score']:.1f} %", "", "", "", ""]
    assert table_after(f"assets/results/bits.json, {task}") == [*expected, last]
