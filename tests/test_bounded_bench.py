"""`python -m benchmarks.bounded`: predictions under bounded decoding beside the full cache's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.bounded import main

SIZES = ["--examples", "2", "--prompt-tokens", "60", "--continuation", "40", "--evict-every", "8"]


def test_a_budget_that_is_never_reached_predicts_what_the_full_cache_does(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "bounded.json"
    words = ["--methods", "h2o,streamingllm", "--budgets", "24,400", *SIZES]
    assert main(["--model", str(folder), *words, "--json", str(target)]) == 0
    written = json.loads(target.read_text(encoding="utf-8"))
    rows = {(row["method"], row["budget"]): row for row in written["rows"]}
    assert len(rows) == 4
    for method in ("h2o", "streamingllm"):
        assert rows[method, 400]["kl"] == pytest.approx(0, abs=1e-4)
        assert rows[method, 24]["kl"] > 1e-4
        assert rows[method, 24]["n"] == len(rows[method, 24]["kl_of_texts"]) == 2
    (gap,) = [each for each in written["differences"] if each["budget"] == 24]
    ours, theirs = rows[gap["against"], 24], rows[gap["method"], 24]
    assert gap["kl"] == pytest.approx(theirs["kl"] - ours["kl"], abs=2e-4)
    assert gap["interval"][0] <= gap["kl"] <= gap["interval"][1]


def test_too_few_texts_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(folder), "--methods", "h2o", *SIZES[2:], "--examples", "100000"]) == 2
    assert "give fewer --examples" in capsys.readouterr().err
