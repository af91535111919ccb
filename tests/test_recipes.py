"""The recipes' figures are those of the results files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
FIELDS = ("weights", "full_rows", "kept_rows", "reading", "reading_full")


def results() -> list[dict[str, Any]]:
    files = sorted((ROOT / "assets" / "results" / "memory").glob("*.json"))
    return [json.loads(path.read_text("utf-8")) for path in files]


def gib(count: int) -> str:
    return f"{count / 2**30:.2f}"


def table_after(marker: str) -> list[list[str]]:
    lines = TEXT.split(f"<!-- {marker} -->", 1)[1].strip().split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_calculated_memory_is_that_of_the_results_files() -> None:
    expected = [
        [
            found["model"],
            found["quantization"] or found["dtype"],
            f"{found['prompt_tokens']:,}",
            *(gib(found["calculated"][field]) for field in FIELDS),
        ]
        for found in results()
        if found["measured"] is None
    ]
    assert sorted(table_after("figures: assets/results/memory")) == sorted(expected)


def test_the_measured_memory_stands_beside_the_calculated() -> None:
    expected = [
        [
            found["quantization"] or found["dtype"],
            *(f"{gib(found['calculated'][field])} / {gib(found['measured'][field])}" for field in FIELDS),
        ]
        for found in results()
        if found["measured"]
    ]
    assert sorted(table_after("measured: assets/results/memory")) == sorted(expected)


def test_the_store_is_as_large_as_the_recipes_say() -> None:
    by_name = {found["model"]: found for found in results() if found["measured"] is None}
    for name in ("llama-3.1-8b", "mistral-7b-v0.3"):
        found = by_name[name]
        assert found["calculated"]["full_rows"] == 128 * 1024 * found["prompt_tokens"]
    mean = (2048 - 256) / 2.0794415  # of lengths drawn evenly on a logarithmic scale, ln(2048 / 256)
    assert f"({mean:.0f} on average)" in TEXT
    for examples, said in ((2000, "about 210 GB"), (480, "about 50 GB")):
        gigabytes = examples * mean * 128 * 1024 / 2**30
        assert said in " ".join(TEXT.split())
        assert gigabytes == pytest.approx(float(said.split()[1]), rel=0.03)
