"""Runs side by side: what differs, what it reached, the command that repeats it; and what the store is worth."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from judgeq.cli import _parser, main
from judgeq.data import wiki
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.training.ablation import compare_runs
from judgeq.training.bench import step_times
from judgeq.training.train import train
from tests.test_training import ARTICLES, CONFIG, changed


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiki, "wiki_articles", lambda held_out: ARTICLES[held_out::2])


def test_a_table_says_what_each_run_changed_and_how_to_repeat_it(lm: LanguageModel, tmp_path: Path) -> None:
    store = tmp_path / "store"
    train(lm, CONFIG, tmp_path / "base", store=store)
    other = train(lm, changed(capacity="embeddings", objective="kl"), tmp_path / "other", store=store)
    folders = [str(tmp_path / name) for name in ("base", "other")]
    assert main(["ablation", *folders, "--json", str(tmp_path / "a.json"), "--figure", str(tmp_path / "a.png")]) == 0
    base, second = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert (base["run"], base["changed"]) == ("base", {})
    assert second["changed"] == {"capacity": "embeddings", "objective": "kl"}
    assert second["parameters"] == 4 * 64 < base["parameters"]
    assert list(second["hit_rate"]) == ["64", "128", "256"]
    assert second["hit_rate"]["64"] == other.config.metrics["held_out_hit_rate_64"]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    again = _parser().parse_args(shlex.split(second["command"].removeprefix("python -m judgeq ")))
    assert (again.capacity, again.objective, again.examples) == ("embeddings", "kl", 6)


def test_a_run_without_figures_cannot_be_compared(lm: LanguageModel, tmp_path: Path) -> None:
    train(lm, changed(held_out=0), tmp_path)
    with pytest.raises(InputError, match="--held-out above 0"):
        compare_runs([tmp_path])


def test_a_step_is_timed_with_and_without_stored_rows(lm: LanguageModel) -> None:
    (times,) = step_times([lm], CONFIG, 150, 1)
    assert min(times.stored, times.alone, times.recomputed, times.answer) > 0
    assert times.ratio == times.recomputed / times.stored
    assert 100 < times.prompt_tokens < 400
