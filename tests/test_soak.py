"""Memory stays flat over runs; `tests/soak.py` does the same for hundreds of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from judgeq._assets import assets_path

TOLERANCE_MB = 40
"""What the allocators of Python and torch move by without a trend. That no run is kept is tested by counting them."""


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is measured differently elsewhere")
def test_thirty_runs_leave_the_memory_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "soak.json"
    command = [sys.executable, "-m", "tests.soak", "--runs", "30", "--every", "10", "--out", str(out)]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True)  # other tests' memory is not looked at
    start, *_, end = json.loads(out.read_text(encoding="utf-8"))["measured"]
    assert end["rss_mb"] - start["rss_mb"] < TOLERANCE_MB
    assert end["runs_alive"] == 0
    assert end["threads"] <= start["threads"] + 2


def test_the_published_soak_is_flat() -> None:
    report = json.loads(assets_path("results", "soak.json").read_text(encoding="utf-8"))
    assert report["runs"] >= 300
    assert [each["runs"] for each in report["measured"]] == list(range(0, report["runs"] + 1, 50))
    assert report["growth_mb"] == pytest.approx(
        report["measured"][-1]["rss_mb"] - report["measured"][0]["rss_mb"], abs=0.11
    )
    assert report["growth_mb"] < TOLERANCE_MB
    assert report["measured"][-1]["runs_alive"] == 0
