"""The figures of the page about speed are those of the results file."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_table_is_that_of_the_results_file() -> None:
    text = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    lines = text.split("<!-- figures: assets/results/bench.json -->", 1)[1].strip().split("\n\n", 1)[0]
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()[2:]]
    rows = json.loads((ROOT / "assets" / "results" / "bench.json").read_text("utf-8"))["rows"]
    assert shown == [
        [
            row["label"],
            f"{row['first_s']:.2f} s",
            f"{100 * (row['first_over_plain'] - 1):+.1f} %",
            f"{1000 * row['token_s']:.1f} ms",
            f"{row['speedup']:.2f}",
            f"{100 * row['of_roofline']:.0f} %",
            f"{row['peak_bytes'] / 1e6:.1f} MB",
            f"{row['row_bytes'] / 1e6:.1f} MB",
        ]
        for row in rows
    ]
