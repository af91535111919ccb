"""ZeroGPU: the same answers from a process that is lent a GPU, and nothing but CPU data between the two."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import spaces

from app.server import zero
from app.server.calibrate_run import CalibrationRun, CalibrationTask
from app.server.host import ModelHost
from app.server.own_tokens import OwnTokens
from app.server.run import Run, result
from app.server.sweep_run import SweepRun, SweepTask
from app.server.task import Task
from app.start import launch
from judgeq.errors import InputError
from judgeq.evaluation.calibration import CalibrationQuestion
from judgeq.methods import METHODS
from judgeq.models.language_model import LanguageModel
from tests.server import DOCUMENT, QUESTION, tiny_host
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
TASK = Task(DOCUMENT, QUESTION, ("full", "judgeq", "snapkv"), 24, max_new_tokens=6)
TIMES = {"ttft_s", "prefill_s", "decode_tokens_per_s"}


def sent(value: Any) -> Any:
    """What the other end of a pipe gets."""
    ours, theirs = multiprocessing.Pipe()
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.append(theirs.recv()))
    reader.start()
    ours.send(value)
    reader.join(20)
    return got[0]


def lent_host(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, crossed: list[Any]) -> ModelHost:
    """A host whose runs go through ZeroGPU's decorator, and all that crosses through a pipe."""

    def gpu(work: Any, duration: Any) -> Any:
        assert spaces_gpu(work, duration=duration) is work  # outside a Space the real one changes nothing

        def piped(*arguments: Any) -> Any:
            crossed.append(duration(*arguments))
            for told in work(*map(sent, arguments)):
                crossed.append(sent(told))
                yield sent(told)  # what is taken is changed

        return piped

    spaces_gpu = spaces.GPU
    monkeypatch.setattr(spaces, "GPU", gpu)
    host = tiny_host(lm)
    host.load_here()
    zero.lend(host, gr.Error)
    return host


def done(run: Run) -> Run:
    run.start().finished.wait(PATIENCE_S)
    assert run.error is None, run.error
    return run


def without_times(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in answer.items() if name not in TIMES} for answer in answers]


def test_the_lent_gpu_answers_as_this_process_does(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    crossed: list[Any] = []
    lent, plain = Run(TASK, lent_host(lm, monkeypatch, crossed), keep=True), Run(TASK, tiny_host(lm))
    done(lent)
    assert without_times(result(lent)) == without_times(result(done(plain)))
    assert lent.prompt_tokens == plain.prompt_tokens
    assert (lent.phase, lent.document) == ("done", None)
    for name, kept in plain.retention.items():
        assert lent.retention[name].to_json() == kept.to_json()
    assert all(lane.answer and lane.answer.retention is lane.retention for lane in lent.lanes)
    assert isinstance(crossed[0], int)
    assert sum(told["lanes"][0].retention is not None for told in crossed[1:]) == 2


def test_a_sweep_and_a_visitors_own_tokens_cross_too(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    host = lent_host(lm, monkeypatch, [])
    task = SweepTask(DOCUMENT, QUESTION, budgets=(8, 16), max_new_tokens=4)
    found = [SweepRun(task, each) for each in (host, tiny_host(lm))]
    for run in found:
        done(run)
    assert found[0].points == found[1].points
    assert len(found[0].points) == 4
    tokens = host.soft_tokens(("judgeq",))
    assert tokens is not None
    own = dataclasses.replace(TASK, own_tokens=OwnTokens("mine", tokens))
    assert without_times(result(done(Run(own, host)))) == without_times(result(done(Run(TASK, host))))


def test_a_calibration_crosses_too(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = (CalibrationQuestion("Who?"), CalibrationQuestion(QUESTION))
    task = CalibrationTask.of(DOCUMENT, questions, budgets=(8, 16), max_new_tokens=4)
    lent, plain = (CalibrationRun(task, each) for each in (lent_host(lm, monkeypatch, []), tiny_host(lm)))
    for run in (lent, plain):
        done(run)
    assert lent.found == plain.found
    assert lent.found is not None
    assert len(lent.answered) == 2


def test_mistakes_keep_their_words_and_bugs_keep_the_document(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host = lent_host(lm, monkeypatch, [])
    long = Run(Task("word " * 9000, QUESTION, ("full",), 24), host).start()
    long.finished.wait(PATIENCE_S)
    assert isinstance(long.error, InputError)
    assert "4,096 positions" in str(long.error)

    def breaks(*_: Any) -> Any:
        raise RuntimeError(DOCUMENT)

    monkeypatch.setattr(Run, "_record", breaks)
    broken = Run(TASK, host).start()
    broken.finished.wait(PATIENCE_S)
    assert "Something broke (RuntimeError)" in str(broken.error)
    assert "lighthouse" not in caplog.text


def test_a_run_is_stopped_where_it_works(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    crossed: list[Any] = []
    run = Run(dataclasses.replace(TASK, max_new_tokens=256), lent_host(lm, monkeypatch, crossed))
    run.update = lambda reported: run.cancel()  # type: ignore[method-assign]
    run.start().finished.wait(PATIENCE_S)
    assert run.phase == "stopped"
    assert len(crossed) == 2


def test_the_time_asked_for_grows_with_the_work_and_stays_within_bounds() -> None:
    def asked(tokens: int = 2000, parameters: int = 8 * 10**9, kind: type[Task] = Task, **changes: Any) -> int:
        return zero.duration(kind("d", "q", **changes), tokens, parameters)

    assert asked(100, 10**8) == zero.LEAST_S
    assert asked(2000) < asked(32_000)
    assert asked(parameters=4 * 10**9, max_new_tokens=128) < asked(max_new_tokens=128)
    assert asked(max_new_tokens=32) < asked(max_new_tokens=128)
    assert asked(methods=("full",), max_new_tokens=100) < asked(max_new_tokens=100)
    assert asked(64_000, methods=("judgeq", "snapkv")) < asked(64_000, methods=("judgeq+draft", "snapkv"))
    assert asked(kind=SweepTask, budgets=(8,)) < asked(kind=SweepTask, budgets=tuple(range(8, 80)))
    assert asked(128_000, methods=tuple(METHODS), max_new_tokens=256) == zero.MOST_S
    assert asked() <= 60  # what ZeroGPU lends unasked


def test_visitors_cannot_change_the_model_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    with pytest.raises(SystemExit):
        launch(["--models"])
    assert "is not available on ZeroGPU" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="ZeroGPU is Linux")
def test_a_worker_of_the_real_package_answers_and_that_no_gpu_is_free_is_said(lm: LanguageModel) -> None:
    values = in_a_space()
    expected = result(done(Run(TASK, tiny_host(lm))))
    for answers in values["answers"]:
        assert without_times(answers) == without_times(expected)
    assert len(values["answers"]) == len(values["maps"]) == 2
    assert all(values["same"])
    assert values["document"]
    assert len(values["points"]) == 4
    (said,) = values["errors"]
    assert "4,096 positions" in said
    scheduled = [line.split()[1] for line in values["asked"] if line.startswith("/schedule ")]
    assert len(scheduled) == 5
    assert all(1 <= int(seconds) <= zero.MOST_S for seconds in scheduled)
    assert values["none_free"] == "ZeroGPU says: No GPU was available. Try again later"


def in_a_space() -> dict[str, Any]:
    """What `tests.zero_space` prints."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.zero_space"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("VALUES ")]
    assert lines, ran.stdout + ran.stderr
    return json.loads(lines[0].removeprefix("VALUES "))
