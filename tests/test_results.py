"""From answers to rows: means, honest intervals, paired differences, gaps and moved questions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from judgeq.data.example import Example
from judgeq.evaluation.journal import Answers, Rated
from judgeq.evaluation.questions import Question, Task
from judgeq.evaluation.results import cells_of, differences_of, moved_of, notes_of, rows_of, with_gaps
from judgeq.evaluation.runner import Asked, Measured, asked_of
from judgeq.evaluation.statistics import bootstrap_interval, mean
from judgeq.methods import Full, JudgeQ, SnapKV, StreamingLLM

ASKED = asked_of({"full": Full(), "judgeq": JudgeQ(), "snapkv": SnapKV(), "streamingllm": StreamingLLM()}, [64])


def measured(task: str, scores: dict[str, list[float]], kinds: str = "", **fields: Any) -> Measured:
    """Answers of a task: scores of each method, one a question, whose kinds are the letters of `kinds`."""
    count = len(next(iter(scores.values())))
    questions = {
        at: Question(Example.asking("text", "what?", f"kind/{(kinds or 'a' * count)[at]}", answers=["yes"]))
        for at in range(count)
    }
    answers: dict[int, Answers] = {
        at: {
            each.name: Rated(str(scores[each.label][at]), scores[each.label][at])
            for each in ASKED
            if each.label in scores
        }
        for at in range(count)
    }
    return Measured(Task(task, list(questions.values()), **fields), questions, answers)


def asked(*labels: str) -> list[Asked]:
    return [each for each in ASKED if each.label in labels]


def test_the_interval_holds_the_mean_and_shrinks_with_more_questions() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for count in (8, 32, 512):
        scores = rng.integers(0, 2, count).tolist()
        low, high = bootstrap_interval([scores], seed=1)
        assert 0 <= low <= sum(scores) / count <= high <= 1
        assert (low, high) == bootstrap_interval([scores], seed=1)
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 1.96 * 0.5 / 512**0.5, rel=0.15)
    assert bootstrap_interval([[0.25] * 9], seed=0) == (0.25, 0.25)
    assert bootstrap_interval([[1.0]], seed=0) == (1.0, 1.0)


def test_few_questions_a_task_make_no_false_certainty_and_tasks_count_the_same() -> None:
    assert mean([[1.0] * 9, [0.0]]) == 0.5
    single = bootstrap_interval([[1.0]] * 8 + [[0.0]] * 8, seed=0)
    assert single == bootstrap_interval([[1.0] * 8 + [0.0] * 8], seed=0)
    assert single[0] < 0.35 < 0.65 < single[1]
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval([rng.integers(0, 2, 3).tolist() for _ in range(20)], seed=trial)
        covered += low <= 0.5 <= high
    assert 180 <= covered <= 199


def test_pairing_makes_a_steady_difference_certain() -> None:
    noisy = np.random.default_rng(0).random(20)
    cells = cells_of([measured("t", {"judgeq": (noisy + 0.125).tolist(), "snapkv": noisy.tolist()})])
    (row,) = differences_of(cells, asked("judgeq", "snapkv"), 0)
    assert (row["method"], row["against"], row["n"]) == ("judgeq", "snapkv", 20)
    assert row["difference"] == pytest.approx(0.125)
    assert row["interval"] == pytest.approx([0.125, 0.125], abs=1e-4)


def test_rows_say_what_they_are_about() -> None:
    task = measured("ruler/vt", {"full": [1.0, 0.5], "judgeq": [1.0, 0.0]}, length=512, depth=25)
    full, judgeq = rows_of(cells_of([task]), asked("full", "judgeq"), 0)
    same = {"task": "ruler/vt@512/depth-25", "benchmark": "ruler", "length": 512, "depth": 25, "n": 2}
    assert full.items() >= {**same, "method": "full", "budget": 1.0, "score": 0.75, "as_full": 1.0}.items()
    assert judgeq.items() >= {**same, "method": "judgeq", "budget": 64, "score": 0.5, "as_full": 0.5}.items()
    assert (full["metric"], full["question_first"]) == ("all", False)
    assert cells_of([Measured(Task("t", []), {}, {})]) == [], "nothing is answered"


def test_tasks_of_a_benchmark_are_averaged_at_each_length_and_over_all() -> None:
    runs = [
        measured("ruler/a", {"judgeq": [1.0, 1.0, 1.0]}, length=512),
        measured("ruler/b", {"judgeq": [0.0]}, length=512),
        measured("ruler/a", {"judgeq": [0.0]}, length=1024),
        measured("other", {"judgeq": [0.5]}, length=512),
    ]
    rows = {row["task"]: row for row in rows_of(cells_of(runs), asked("judgeq"), 0)}
    assert list(rows) == ["ruler/a@512", "ruler/b@512", "ruler/a@1024", "other@512", "ruler@512", "ruler"]
    short, whole = rows["ruler@512"], rows["ruler"]
    assert (short["score"], short["tasks"], short["n"], short["length"]) == (0.5, 2, 4, 512)
    assert (whole["score"], whole["tasks"], whole["n"], whole["length"]) == (0.3333, 3, 5, None)
    assert {short["metric"], whole["metric"]} == {"average"}
    runs = [measured(f"ruler/{name}", {"judgeq": [1.0]}, length=512) for name in "ab"]
    found = [row["task"] for row in rows_of(cells_of(runs), asked("judgeq"), 0)]
    assert found == ["ruler/a@512", "ruler/b@512", "ruler@512"], "one length has one average"


def test_kinds_get_rows_of_their_own_beside_the_total() -> None:
    runs = [measured("facts", {"judgeq": [1.0, 0.0, 0.5]}, kinds="xyy", length=9)]
    rows = {row["task"]: row for row in rows_of(cells_of(runs), asked("judgeq"), 0)}
    assert [(task, row["score"], row["n"]) for task, row in rows.items()] == [
        ("facts@9", 0.5, 3),
        ("facts@9/x", 1.0, 1),
        ("facts@9/y", 0.25, 2),
    ]


def test_soft_tokens_are_compared_with_every_rival_in_the_average() -> None:
    scores = {"judgeq": [1.0, 0.5], "snapkv": [0.5, 0.5], "streamingllm": [0.0, 0.0], "full": [1.0, 1.0]}
    runs = [measured(f"ruler/{name}", scores, length=512) for name in "ab"]
    rows = differences_of(cells_of(runs), ASKED, 0)
    averages = [row for row in rows if row["metric"] == "average"]
    assert [(row["method"], row["against"], row["difference"]) for row in averages] == [
        ("judgeq", "snapkv", 0.25),
        ("judgeq", "streamingllm", 0.75),
        ("streamingllm", "snapkv", -0.5),
    ]


def test_a_moved_question_is_compared_with_the_same_question() -> None:
    last = measured("ruler/a", {"judgeq": [1.0, 1.0, 0.5]}, length=512)
    first = measured("ruler/a", {"judgeq": [0.0, 1.0, 0.5]}, length=512, question_first=True)
    del first.answers[1]  # as if it were too long
    (row,) = moved_of(cells_of([last, first]), asked("judgeq"), 0)
    assert (row["task"], row["difference"], row["n"]) == ("ruler/a@512", -0.5, 2)
    assert moved_of(cells_of([last]), asked("judgeq"), 0) == []


def row(method: str, budget: float, value: float, task: str = "facts") -> dict[str, Any]:
    return {"method": method, "budget": budget, "task": task, "metric": "all", "score": value}


def test_the_gap_is_that_of_the_same_task_and_budget_and_needs_both_ends() -> None:
    facts = [row("full", 1.0, 0.9), row("snapkv", 64, 0.1), row("snapkv", 128, 0.5)]
    facts += [row("judgeq", 64, 0.5), row("judgeq", 128, 0.4), row("judgeq", 256, 0.9)]
    scores = (("full", 1.0, 0.2), ("snapkv", 64, 0.2), ("judgeq", 64, 0.4))
    rows = with_gaps([*facts, *(row(*score, "keys") for score in scores)])
    assert [each["gap_closed"] for each in rows] == [None, 0.0, 0.0, 0.5, -0.25, None, None, None, None]
    for rows in ([row("full", 1.0, 1.0), row("judgeq", 64, 0.5)], [row("snapkv", 64, 1.0)]):
        assert with_gaps(rows) == rows


def test_every_note_is_told_once() -> None:
    runs = [measured("t", {"judgeq": [1.0]}, length=length, notes=("Another text.",)) for length in (1, 2)]
    assert notes_of(runs) == ["Another text."]
