"""Training from the page, on a tiny random model: estimated, stopped, resumed, in use; and nobody else may start it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app import text
from app.sections.train.callbacks import TrainCallbacks
from app.server import train_run
from app.server.host import ModelHost
from app.server.run import Run
from app.server.task import Task
from app.server.train_run import Followed, folder_named
from app.start import launch
from app.ui import build
from judgeq.data import wiki
from judgeq.errors import InputError
from judgeq.methods import JudgeQ
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.server import DOCUMENT, QUESTION
from tests.test_training import ARTICLES, CONFIG, blank_curve
from tests.waiting import PATIENCE_S

HERE = SimpleNamespace(client=SimpleNamespace(host="127.0.0.1"), headers={"host": "localhost:7860"})

__all__ = ["blank_curve"]


@pytest.fixture
def host(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> ModelHost:
    monkeypatch.setattr(wiki, "wiki_articles", lambda held_out: ARTICLES[held_out::2])
    monkeypatch.setitem(train_run.RECIPES, "quick", CONFIG)
    made = ModelHost(lm.name, load=lambda name, progress: lm)
    made.model()
    return made


def followed(section: TrainCallbacks, recipe: str = "quick", name: str = "") -> tuple[Any, list[Any]]:
    run = section.begin(recipe, name, HERE)[0]
    return run, list(section.follow(run))


def test_a_judge_is_estimated_trained_stopped_resumed_and_in_use(
    host: ModelHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = TrainCallbacks(host, tmp_path)
    assert host.lacks_soft_tokens
    estimated, news = followed(TrainCallbacks(host, tmp_path, only_estimate=True))
    assert min(estimated.needs.seconds, estimated.needs.disk, estimated.needs.memory) > 0
    assert text.TRAIN_MEMORY in news[-1][3]
    assert f"judgeq train --model {host.name}" in news[-1][3]
    assert list(tmp_path.iterdir()) == [], "an estimate leaves nothing behind"

    advance = Followed.advance

    def stopping(self: Followed, phase: str, done: int, total: int, **figures: float) -> None:
        if (phase, done) == ("training", 2):
            self.run.cancel()
        advance(self, phase, done, total, **figures)

    with monkeypatch.context() as patched:
        patched.setattr(Followed, "advance", stopping)
        run, news = followed(section)
    assert run.phase == "stopped"
    assert "Stopped at training, 2 of 6" in news[-1][0]
    assert section.attach(HERE)[0] is None

    run, news = followed(section)
    assert run.phase == "done", run.error
    assert len(run.history) == 6
    status, panel, figure, _ = news[-1]
    assert "Trained and in use" in status
    assert panel["visible"]
    loss, _, *rates = figure["value"].data
    assert len(loss.x) == 6
    assert len({len(rate.x) for rate in rates}) == 1, "a rate that stays the same is drawn, too"
    assert host.soft_tokens((JudgeQ.name,)).n == CONFIG.n
    assert SoftTokens.for_model(host.model(), tmp_path / host.name).n == CONFIG.n
    assert not host.lacks_soft_tokens
    asked = Run(Task(DOCUMENT, QUESTION, methods=("judgeq",), budget=24, max_new_tokens=3), host).start()
    assert asked.finished.wait(PATIENCE_S)
    assert asked.phase == "done"


def test_two_trainings_at_once_and_unknown_recipes_are_refused(host: ModelHost, tmp_path: Path) -> None:
    section = TrainCallbacks(host, tmp_path)
    with pytest.raises(gr.Error, match="no such recipe"):
        section.begin("largest", "", HERE)
    run = section.begin("quick", "", HERE)[0]
    with host.turn():
        run.start()
        with pytest.raises(gr.Error, match="already"):
            section.begin("quick", "", HERE)
        assert section.attach(HERE)[0] is run
        leaving = section.follow(run)
        next(leaving)
        leaving.close()
        assert not run.stopped, "a training goes on when its page is closed"
        run.stop()


@pytest.mark.parametrize("name", ["../up", "a/b", ".", "-x", "x" * 101, "a b"])
def test_a_name_leads_nowhere_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot name a folder"):
        folder_named(tmp_path, name, "model")
    assert folder_named(tmp_path, None, "Org/My model") == tmp_path / "Org-My-model"


@pytest.mark.parametrize(
    ("client", "headers"),
    [
        ("192.168.1.7", {"host": "localhost"}),
        ("127.0.0.1", {"host": "demo.example.org"}),
        ("127.0.0.1", {"host": "localhost", "x-forwarded-for": "8.8.8.8"}),
        ("127.0.0.1", {"host": "["}),
        (None, {"host": "localhost"}),
    ],
)
def test_nobody_else_starts_a_training(
    client: str | None, headers: dict[str, str], host: ModelHost, tmp_path: Path
) -> None:
    section = TrainCallbacks(host, tmp_path)
    foreign: Any = SimpleNamespace(client=client and SimpleNamespace(host=client), headers=headers)
    with pytest.raises(gr.Error, match="on the machine itself"):
        section.begin("quick", "", foreign)
    assert section.attach(foreign)[0] is None


def test_visitors_never_get_the_section_nor_its_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def config(**options: Any) -> str:
        return str(build(ModelHost("none"), **options).get_config_file())

    assert "train-start" not in config()
    assert "train-start" in config(train_in=tmp_path)
    for name, value, more in (
        ("SPACE_ID", "me/demo", []),
        ("GRADIO_ROOT_PATH", "/judgeq", []),
        ("NOTHING", "", ["--host", "0.0.0.0"]),
    ):
        with monkeypatch.context() as own:
            own.setenv(name, value)
            with pytest.raises(SystemExit):
                launch(["--train", str(tmp_path), "--port", "0", *more])
        assert "--train is for one's own machine" in capsys.readouterr().err
