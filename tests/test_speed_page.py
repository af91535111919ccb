"""The figures of the page about speed are those of the results file."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

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
            f"{100 * row['of_roofline']:.0f} %" if "of_roofline" in row else "–",
            f"{row['peak_bytes'] / 1e6:.1f} MB" if "peak_bytes" in row else "–",
            f"{row['row_bytes'] / 1e6:.1f} MB" if "row_bytes" in row else "–",
        ]
        for row in rows
    ]
    named = {row["label"]: row for row in rows}
    plain, peer = named["transformers"], named["kvpress' transformers"]
    assert named["judgeq@256"]["first_over_plain"] < 1.01, "nothing that could be told from noise"
    assert round(100 * named["all in one prefill"]["first_over_plain"]) == 102
    assert round(named["next question"]["first_over_plain"], 1) == 0.1, "a tenth as long"
    assert named["judgeq@256"]["of_roofline"] > 0.95
    assert round(named["judgeq:allocation=adakv@256"]["token_s"] / named["judgeq@256"]["token_s"], 1) == 1.1
    assert round(peer["first_s"] / plain["first_s"]) == 2, "even without kvpress"
    assert named["kvpress snapkv@256"]["first_s"] / peer["first_s"] < 1.01
    assert round(100 * named["kvpress snapkv@256"]["token_s"] / named["snapkv@256"]["token_s"]) == 100


def test_a_start_takes_what_the_page_says() -> None:
    text = " ".join((ROOT / "docs" / "speed.md").read_text(encoding="utf-8").split())
    rounds = json.loads((ROOT / "assets" / "results" / "start.json").read_text("utf-8"))["rounds"]
    first, own, load = (
        f"{median(each[part] for each in rounds):.2f} s" for part in ("torch_s", "import_s", "load_s")
    )
    assert (
        f"`import torch` {first}, `import judgeq` behind it {own}, then loading the embedded model {load}"
        in text
    )
