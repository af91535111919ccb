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


def on_a_gpu(name: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Precision, prompt tokens and content of each file."""
    files = (ROOT / "assets" / "results" / "gpu").glob(f"{name}*.json")
    parts = ((path.stem.removeprefix(name).strip("-_").replace("-", "_").split("_"), path) for path in files)
    return [(bits, f"{int(tokens):,}", json.loads(path.read_text("utf-8"))) for (bits, tokens), path in parts]


def gib(count: int) -> str:
    return f"{count / 2**30:.2f}"


def beside(found: dict[str, Any]) -> list[str]:
    """Calculated and measured."""
    return [f"{gib(found['calculated'][field])} / {gib(found['measured'][field])}" for field in FIELDS]


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
            *beside(found),
        ]
        for found in results()
        if found["measured"]
    ]
    assert sorted(table_after("measured: assets/results/memory")) == sorted(expected)


def test_what_a_gpu_held_is_that_of_the_results_files() -> None:
    expected = [
        [
            bits,
            tokens,
            *beside(found),
        ]
        for bits, tokens, found in on_a_gpu("llama-3.1-8b")
    ]
    assert len(expected) == 4
    assert sorted(table_after("measured: assets/results/gpu")) == sorted(expected)


def test_the_times_of_a_gpu_are_those_of_the_results_files() -> None:
    expected = [
        [
            bits,
            tokens,
            row["label"],
            f"{row['first_s']:.2f} s",
            f"{100 * (row['first_over_plain'] - 1):+.1f} %".replace("-", "−"),
            f"{1000 * row['token_s']:.1f} ms",
            f"{row['row_bytes'] / 1e6:,.0f} MB",
        ]
        for bits, tokens, found in on_a_gpu("bench")
        for row in found["rows"]
    ]
    assert len(expected) == 21
    assert sorted(table_after("times: assets/results/gpu")) == sorted(expected)


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
