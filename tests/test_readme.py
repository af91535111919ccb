"""The README's figures are those of the results files beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = {"Judge Q": "judgeq", "SnapKV": "snapkv", "StreamingLLM": "streamingllm", "random rows": "random"}


def table_after(marker: str) -> list[list[str]]:
    """The rows behind a marker comment that begin with a method's name."""
    rows = [line for line in README.split(marker, 1)[1].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [row for row in cells if row[0].strip("*") in NAMES]


def test_hit_rates_are_those_of_the_results_file() -> None:
    results = json.loads((ROOT / "assets/results/hit_rate.json").read_text(encoding="utf-8"))
    measured = {(row["method"], row["budget"]): row["score"] for row in results["rows"]}
    table = table_after("<!-- figures: assets/results/hit_rate.json -->")
    assert len(table) == len(NAMES)
    for name, *figures in table:
        method = NAMES[name.strip("*")]
        assert [float(figure.strip("* %")) for figure in figures] == [
            round(100 * measured[method, budget], 1) for budget in (64, 128, 256)
        ]


def test_the_shipped_judge_beats_snapkv_by_fifteen_points() -> None:
    results = json.loads((ROOT / "assets/results/hit_rate.json").read_text(encoding="utf-8"))
    measured = {(row["method"], row["budget"]): row["score"] for row in results["rows"]}
    for budget in (64, 128, 256):
        assert measured["judgeq", budget] - measured["snapkv", budget] >= 0.15


def test_every_file_that_the_readme_points_to_exists() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
