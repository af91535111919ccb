"""RULER in kvpress' pipeline: what it is asked, what is scored, and that nothing is asked twice."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks import kvpress_server, pipeline
from judgeq.data.example import Example
from judgeq.evaluation.questions import Question, Task
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens

OTHER_PYTHON = os.environ.get("JUDGEQ_KVPRESS_PYTHON", "")
CONTEXT, ASKED = "The lighthouse is 31 metres tall. " * 9, "What is its height?"


@pytest.fixture
def places(make_lm: Callable[..., LanguageModel], tmp_path: Path) -> Path:
    """A tiny model and soft tokens for it."""
    lm = make_lm()
    lm.model.save_pretrained(tmp_path / "tiny-llama")
    lm.tokenizer.save_pretrained(tmp_path / "tiny-llama")
    SoftTokens.initialise(lm, torch.arange(10, 18)).save_pretrained(tmp_path / "judge")
    return tmp_path


def tasks(lm: LanguageModel, *_: object, question_unknown: bool, **__: object) -> list[Task]:
    example = Example.asking(CONTEXT, ASKED, "vt", answers=("31",), answer_prefix="It is")
    question = Question(example, metric="all", unknown=(CONTEXT, ASKED) if question_unknown else None)
    return [Task("ruler-unknown/vt" if question_unknown else "ruler/vt", [question], 1024)]


def run(places: Path, budgets: str = "0.25") -> dict[str, Any]:
    words = ["--python", "python", "--model", str(places / "tiny-llama"), "--tokens", str(places / "judge")]
    result = places / "found.json"
    assert pipeline.main([*words, "--tasks", "vt", "--budgets", budgets, "--json", str(result)]) == 0
    return json.loads(result.read_text(encoding="utf-8"))


def test_both_kinds_of_questions_are_asked_once_and_scored(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def answer(**request: Any) -> dict[str, str]:
        asked.append(request)
        if press := request["press"]:
            return {"text": "31"} if press["name"] == "JudgeQPress" else {"failed": "no keys"}
        return {"text": "It is 31."}

    @contextlib.contextmanager
    def serving(*_: object) -> Iterator[SimpleNamespace]:
        about = {"kvpress": "0.5.5", "torch": "1", "transformers": "5"}
        yield SimpleNamespace(ask=answer, about=about)

    monkeypatch.setattr(pipeline, "serving", serving)
    monkeypatch.setattr("judgeq.evaluation.harness.ruler_tasks", tasks)
    found = run(places)
    known = sum(not press.replays for press in pipeline.PRESSES)
    assert len(asked) == known + len(pipeline.PRESSES)
    assert [each["question"] for each in asked] == [""] * known + [f"\n{ASKED}"] * len(pipeline.PRESSES)
    assert asked[0]["context"].endswith(ASKED)
    assert not asked[-1]["context"].endswith(ASKED)
    assert {each["press"]["ratio"] for each in asked if each["press"]} == {0.75}
    scores = {(row["task"], row["method"]): row["score"] for row in found["rows"]}
    for task in ("kvpress/vt@1024", "kvpress-unknown/vt@1024"):
        assert scores[task, "full"] == scores[task, "judgeq:memory=0:allocation=adakv"] == 1.0
        assert scores[task, "snapkv"] == 0.0
    assert found["complete"]
    assert found["settings"]["presses"]["judgeq:memory=0:allocation=adakv"] == "AdaKVPress(JudgeQPress)"
    before = len(asked)
    assert run(places) == found
    assert len(asked) == before
    run(places, "0.25,0.5")
    assert len(asked) == before + known + len(pipeline.PRESSES) - 2  # the full cache is not asked again


def test_rows_are_refused_since_kvpress_counts_in_shares(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--python", "python", "--model", str(places / "tiny-llama"), "--budgets", "64"]
    assert pipeline.main(words) == 2
    assert "give --budgets such as 0.25" in capsys.readouterr().err


@pytest.mark.skipif(not OTHER_PYTHON, reason="JUDGEQ_KVPRESS_PYTHON names no Python with kvpress 0.5.5")
def test_every_press_answers_over_there(places: Path) -> None:
    requests = [
        {
            "context": CONTEXT,
            "question": question,
            "answer_prefix": "It is",
            "max_new_tokens": 4,
            "press": {
                "name": press.name,
                "ratio": 0.5,
                "options": {"folder": str(places / "judge")} if press.name == "JudgeQPress" else {},
                "heads_compete": press.heads_compete,
            }
            if press.name
            else None,
        }
        for press in pipeline.PRESSES
        for question in ("", f"\n{ASKED}")
    ]
    done = subprocess.run(
        [OTHER_PYTHON, "-I", kvpress_server.__file__, str(places / "tiny-llama"), "1"],
        input="".join(json.dumps(each) + "\n" for each in requests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    about, *answers = map(json.loads, done.stdout.splitlines())
    assert about["kvpress"] == "0.5.5"
    assert [len(each) for each in answers] == [1] * len(requests)
    # where heads keep different rows, kvpress hides the others behind made-up keys, and finds none for a tiny model
    even = [not (press.heads_compete or press.replays) for press in pipeline.PRESSES for _ in range(2)]
    assert all("text" in each for each, is_even in zip(answers, even, strict=True) if is_even)
