"""The figures of the page about base models are those of the results files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "assets" / "results" / "quantized"
TEXT = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
PRECISIONS = {"float32": "float32", "bfloat16": "bfloat16", "8 bits": "8bit", "4 bits": "4bit"}
WENT_ON = {
    "as shipped": "4bit",
    "in 4 bits": "4bit_trained_4bit",
    "in float32": "4bit_trained_float32",
    "in 4 bits, a tenth of the learning rates": "4bit_gentle_4bit",
    "in float32, a tenth of the learning rates": "4bit_gentle_float32",
}
BUDGETS = (64, 128, 256)


def results(kind: str, name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{kind}_{name}.json").read_text("utf-8"))


def table_after(marker: str) -> list[list[str]]:
    lines = TEXT.split(f"<!-- figures: {marker} -->", 1)[1].strip().split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def percent(score: float) -> str:
    return f"{100 * score:.1f} %"


def hit_rates(name: str) -> dict[tuple[str, int], str]:
    rows = results("hit_rate", name)["rows"]
    return {(row["method"], row["budget"]): percent(row["score"]) for row in rows}


def answers(name: str, task: str) -> dict[tuple[str, int], str]:
    rows = results("answers", name)["rows"]
    return {
        (row["method"], round(1000 * row["budget"])): percent(row["score"])
        for row in rows
        if row["task"] == task
    }


def test_hit_rates_of_every_precision() -> None:
    expected = []
    for label, name in PRECISIONS.items():
        found = hit_rates(name)
        expected.append([label, *(found["judgeq", budget] for budget in BUDGETS), found["snapkv", 64]])
    assert table_after("hit_rate") == expected


@pytest.mark.parametrize("task", ["keys", "facts-led"])
def test_answers_in_every_precision(task: str) -> None:
    expected = []
    for label, name in PRECISIONS.items():
        found = answers(name, f"{task}@1000")
        ours = (found[method, budget] for method in ("judgeq", "judgeq+draft") for budget in BUDGETS)
        expected.append([label, found["full", 1000], *ours])
    assert table_after(task) == expected


def test_what_training_on_in_4_bits_brought() -> None:
    shown = table_after("went on")
    assert len(shown) >= 3
    for label, *cells in shown:
        rates = hit_rates(WENT_ON[label])
        found = answers(WENT_ON[label], "keys@1000")
        expected = (source["judgeq", budget] for source in (rates, found) for budget in BUDGETS)
        assert cells == list(expected), label


def test_the_files_are_of_the_soft_tokens_that_they_say() -> None:
    shipped = json.loads((ROOT / "assets/soft_tokens/smollm2-135m/judgeq_config.json").read_text("utf-8"))
    for name in PRECISIONS.values():
        assert results("hit_rate", name)["tokens"] == shipped["recipe"] == results("answers", name)["tokens"]
