"""Answers: rated as the metrics say, from one prefill, with honest intervals and gaps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import judgeq
from judgeq import reference
from judgeq.config import Decoding, Selection
from judgeq.data import jsonl
from judgeq.data.example import Example
from judgeq.data.jsonl import read_json_lines
from judgeq.errors import InputError
from judgeq.evaluation.answers import Answered, Question, Rated, answer_all, bootstrap_interval, with_gaps
from judgeq.evaluation.files import questions_of
from judgeq.evaluation.metrics import METRICS, normalised, score
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, JudgeQ, Method, Oracle, SnapKV
from judgeq.soft_tokens import SoftTokens
from tests.conftest import TEXT
from tests.test_profile import profile

DOCUMENT, ASKED = (TEXT * 2).strip(), "How tall is the lighthouse?"


def question(answers: tuple[str, ...] = ("31",), kind: str = "test", **more: Any) -> Question:
    example = Example.asking(DOCUMENT, ASKED, kind, answers=answers)
    return Question(dataclasses.replace(example, **more), max_new_tokens=8)


@pytest.fixture(scope="module")
def tokens(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.arange(40, 44))


# Metrics


@pytest.mark.parametrize(
    ("metric", "text", "answers", "expected"),
    [
        ("all", "It is 31 METRES tall.", ["31 metres"], 1.0),
        ("all", "Bees and WASPS.", ["bees", "wasps", "ants", "flies"], 0.5),
        ("all", "", ["bees"], 0.0),
        ("any", "Bees only.", ["wasps", "bees"], 1.0),
        ("any", "Neither.", ["wasps", "bees"], 0.0),
        ("exact", " The  Harbour. ", ["harbour"], 1.0),
        ("exact", "In the harbour", ["harbour"], 0.0),
        ("exact", "an answer", ["other", "Answer!"], 1.0),
        ("f1", "the red harbour wall", ["red harbour"], 0.8),
        ("f1", "no no yes", ["no"], 0.5),
        ("f1", "grey quay", ["red", "a grey quay"], 1.0),
        ("f1", "grey", ["red"], 0.0),
        ("f1", "", ["red"], 0.0),
        ("f1", "The.", ["a"], 1.0),
    ],
)
def test_metrics_on_cases_counted_by_hand(
    metric: str, text: str, answers: list[str], expected: float
) -> None:
    assert score(metric, text, answers) == pytest.approx(expected)


def test_text_is_normalised_as_for_squad() -> None:
    assert normalised("  The cat's, an   Apple-pie! ") == "cats applepie"
    assert normalised("Theatre banana") == "theatre banana"


def test_a_file_may_name_every_metric() -> None:
    assert set(jsonl.METRICS) == set(METRICS)


def test_what_cannot_be_rated_is_refused() -> None:
    with pytest.raises(InputError, match="at least one right answer"):
        score("all", "text", [])
    with pytest.raises(InputError, match="no metric 'bleu': choose one of all, any, exact, f1"):
        score("bleu", "text", ["a"])


# Intervals and gaps


def test_the_interval_holds_the_mean_and_shrinks_with_more_examples() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (8, 32, 512):
        scores = rng.integers(0, 2, count).tolist()
        low, high = bootstrap_interval(scores, seed=1)
        assert 0 <= low <= sum(scores) / count <= high <= 1
        assert (low, high) == bootstrap_interval(scores, seed=1)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 1.96 * 0.5 / 512**0.5, rel=0.15)
    assert bootstrap_interval([0.25] * 9, seed=0) == (0.25, 0.25)
    assert bootstrap_interval([1.0], seed=0) == (1.0, 1.0)


def row(method: str, budget: float, value: float, task: str = "facts") -> dict[str, Any]:
    return {"method": method, "budget": budget, "task": task, "metric": "all", "score": value}


def test_the_gap_is_that_of_the_same_task_and_budget() -> None:
    rows = with_gaps(
        [
            row("full", 1.0, 0.9),
            row("snapkv", 64, 0.1),
            row("snapkv", 128, 0.5),
            row("judgeq", 64, 0.5),
            row("judgeq", 128, 0.4),
            row("judgeq", 256, 0.9),
            row("full", 1.0, 0.2, "keys"),
            row("snapkv", 64, 0.2, "keys"),
            row("judgeq", 64, 0.4, "keys"),
        ]
    )
    assert [each["gap_closed"] for each in rows] == [None, 0.0, 0.0, 0.5, -0.25, None, None, None, None]


def test_there_is_no_gap_without_both_ends() -> None:
    for rows in ([row("full", 1.0, 1.0), row("judgeq", 64, 0.5)], [row("snapkv", 64, 1.0)]):
        assert with_gaps(rows) == rows


def test_kinds_get_rows_of_their_own_beside_the_total() -> None:
    def rated(kind: str, value: float, metric: str = "all") -> Rated:
        return Rated(kind, metric, "", value, as_full=value > 0)

    answered = Answered(
        "judgeq", 64, (rated("facts/first", 1.0), rated("facts/last", 0.0), rated("facts/last", 0.5))
    )
    rows = {each["task"]: each for each in answered.to_rows("facts@1000")}
    assert list(rows) == ["facts@1000", "facts@1000/first", "facts@1000/last"]
    assert [(each["score"], each["n"]) for each in rows.values()] == [(0.5, 3), (1.0, 1), (0.25, 2)]
    assert rows["facts@1000"]["as_full"] == pytest.approx(2 / 3, abs=1e-4)
    low, high = rows["facts@1000"]["interval"]
    assert low <= 0.5 <= high
    mixed = Answered("judgeq", 64, (rated("a", 1.0), rated("a", 0.5, "f1")))
    assert [(each["metric"], each["score"]) for each in mixed.to_rows("own")] == [("all", 1.0), ("f1", 0.5)]


# Answers


def test_one_prefill_gives_every_method_the_answer_it_gives_alone(
    lm: LanguageModel, tokens: SoftTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[Method] = [SnapKV(), Full(), JudgeQ(), Oracle()]
    alone = [
        judgeq.ask(
            lm,
            DOCUMENT,
            ASKED,
            method=method,
            budget=budget,
            tokens=tokens,
            decoding=Decoding(max_new_tokens=8),
        ).text
        for method in methods
        for budget in ([40, 0.5] if not isinstance(method, Full) else [1.0])
    ]
    passes = []
    prefill = reference.prefill
    monkeypatch.setattr(reference, "prefill", lambda *a, **k: passes.append(1) or prefill(*a, **k))
    found = answer_all(lm, [question(), question()], methods, [40, 0.5], tokens=tokens)
    assert len(passes) == 2
    assert [(each.method, each.budget) for each in found] == [
        *(("snapkv", 40), ("snapkv", 0.5), ("full", 1.0)),
        *(("judgeq", 40), ("judgeq", 0.5), ("oracle", 40), ("oracle", 0.5)),
    ]
    assert [[answer.text for answer in each.answers] for each in found] == [[text, text] for text in alone]
    full = alone[2]
    assert [each.answers[0].as_full for each in found] == [text == full for text in alone]
    assert len(set(alone)) > 1


def test_right_answers_are_found_in_what_is_written_and_not_in_the_prefix(lm: LanguageModel) -> None:
    (probe,) = answer_all(lm, [question()], [SnapKV()], [30], tokens=None)
    text = probe.answers[0].text
    assert len(text) > 3
    right, half, prefixed = (
        question((text[1:-1].upper(),)),
        question((text, "no such words")),
        question(("The tower is",), answer_prefix="The tower is"),
    )
    (found,) = answer_all(lm, [right, half, prefixed], [SnapKV()], [30], tokens=None)
    assert [answer.score for answer in found.answers] == [1.0, 0.5, 0.0]


def test_a_budget_that_covers_the_prompt_is_the_full_cache(lm: LanguageModel) -> None:
    for each in answer_all(lm, [question()], [SnapKV()], [1.0, 10_000], tokens=None):
        assert each.answers[0].as_full


def test_progress_is_told_example_by_example(lm: LanguageModel) -> None:
    told: list[tuple[int, int]] = []
    answer_all(
        lm,
        [question()] * 3,
        [Full()],
        [9],
        tokens=None,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_learned_profile_reaches_the_methods(lm: LanguageModel, tokens: SoftTokens) -> None:
    method = SnapKV(selection=Selection(allocation="profile"))
    learned = dataclasses.replace(tokens, profile=profile(8, 64))
    assert answer_all(lm, [question()], [method], [16], tokens=learned)[0].answers
    with pytest.raises(InputError, match="carry none"):
        answer_all(lm, [question()], [method], [16], tokens=tokens)


def test_bad_questions_are_refused_before_any_work(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(reference, "prefill", never)
    too_long = Question(Example.asking("word " * 9000, ASKED, "test", answers=["a"]))
    for bad in (question(()), dataclasses.replace(question(), metric="bleu"), too_long):
        with pytest.raises(InputError):
            answer_all(lm, [question(), bad], [SnapKV()], [16], tokens=None)


# Files


def test_lines_become_questions_or_are_named_with_their_number(lm: LanguageModel, tmp_path: Path) -> None:
    good = {"context": DOCUMENT, "question": ASKED, "answers": ["31"], "metric": "f1", "max_new_tokens": 5}
    lines = [
        good,
        {"context": DOCUMENT, "question": ASKED},
        {"context": "word " * 9000, "question": ASKED, "answers": ["31"]},
        {"context": DOCUMENT, "question": ASKED, "answers": ["31"]},
    ]
    path = tmp_path / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    read, _ = read_json_lines(path)
    found = questions_of(lm, path, read, None, skip_bad=True, longest=7)
    assert [(each.metric, each.max_new_tokens) for each in found] == [("f1", 5), ("all", 7)]
    with pytest.raises(InputError, match=r"line 2: .*right answer.*skip-bad"):
        questions_of(lm, path, read, None)
    with pytest.raises(InputError, match=r"line 3: .*shorten"):
        questions_of(lm, path, read[2:], None)
    with pytest.raises(InputError, match="no line"):
        questions_of(lm, path, read[1:3], None, skip_bad=True)
