"""Nothing stays of a run; `tests/soak.py` looks at hundreds of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from app.server.run import Run
from judgeq._assets import assets_path
from judgeq.models.language_model import LanguageModel
from tests.forks import ran
from tests.server import tiny_host
from tests.soak import least_growth, soak

pytestmark = pytest.mark.slow

EVERY = 10
MOST_MB = 0.5
"""Of ten runs: less than what their smallest caches come to."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Thirty runs in a process of their own: what other tests leave behind is not looked at."""
    out = tmp_path_factory.mktemp("soak") / "soak.json"
    code, said = ran(["tests.soak", "--runs", "30", "--every", str(EVERY), "--out", str(out)])
    assert code == 0, said
    return json.loads(out.read_text(encoding="utf-8"))["measured"]


def test_no_run_is_kept(measured: list[dict[str, Any]]) -> None:
    assert measured[-1]["runs_alive"] == 0


@pytest.mark.parametrize(("what", "leak"), [("tensors", 1), ("threads", 1), ("objects", EVERY)])
def test_their_number_does_not_grow_with_the_runs(measured: list[dict[str, Any]], what: str, leak: int) -> None:
    assert least_growth(measured, what) < leak


def test_nothing_stays_allocated(measured: list[dict[str, Any]]) -> None:
    assert least_growth(measured, "allocated_mb") < MOST_MB


# That a leak is found


def leaking(keep: Callable[[Any], Any], lm: LanguageModel, patch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A few runs of which something is kept."""
    kept, look_at = [], Run._record

    def keeping(run: Run, reading: Any, layers: int) -> None:
        look_at(run, reading, layers)
        kept.append(keep(reading))

    patch.setattr(Run, "_record", keeping)
    return soak(tiny_host(lm), runs=4, every=2)


def test_a_run_s_cache_that_is_kept_is_found(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = leaking(lambda reading: [each.retained.cache for each in reading.writers], lm, monkeypatch)
    assert least_growth(found, "tensors") >= 1
    assert least_growth(found, "objects") >= 2


def test_memory_that_python_does_not_count_is_found(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = leaking(lambda _: bytes(1_000_000), lm, monkeypatch)
    assert found[0]["allocated_mb"] == 0 or least_growth(found, "allocated_mb") > MOST_MB


@pytest.mark.parametrize(
    ("looks", "is_leak"),
    [
        ([620.8, 643.9, 662.0, 662.0], False),
        ([662.2, 696.8, 727.6, 706.2, 690.4, 676.4, 679.8], False),
        ([600.0, 601.5, 603.0, 604.5], True),
    ],
    ids=["a high-water mark", "up and down", "a little each time"],
)
def test_a_leak_grows_between_any_two_looks(looks: list[float], is_leak: bool) -> None:
    assert (least_growth([{"rss_mb": look} for look in looks], "rss_mb") > 1) is is_leak


def test_the_published_soak_is_flat() -> None:
    report = json.loads(assets_path("results", "soak.json").read_text(encoding="utf-8"))
    measured = report["measured"]
    assert report["runs"] >= 300
    assert [each["runs"] for each in measured] == list(range(0, report["runs"] + 1, 50))
    assert report["growth_mb"] == pytest.approx(measured[-1]["rss_mb"] - measured[0]["rss_mb"], abs=0.11)
    assert least_growth(measured, "rss_mb") < 1
    assert measured[-1]["runs_alive"] == 0
