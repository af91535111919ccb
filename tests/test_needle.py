"""Needle in a Haystack: where the needle stands, how long the haystack is, the same needles at every depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from judgeq.errors import InputError
from judgeq.evaluation.harness import LocalFiles, library, needle_tasks
from judgeq.evaluation.questions import Question
from judgeq.models.language_model import LanguageModel

SENTENCE = "The keeper wrote down the name of ship number {at} before noon."
NEEDLE = "One of the special magic numbers for "


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_failed", {"punkt_tab": "punkt_tab could not be fetched."})


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    essays = " ".join(SENTENCE.format(at=at) for at in range(400))
    (tmp_path / "essays.txt").write_text(essays, encoding="utf-8")
    return LocalFiles(tmp_path)


def context(question: Question) -> str:
    return question.example.messages[0].content.split("\n")[1]


def asked(lm: LanguageModel, files: LocalFiles, **options: Any) -> list[Any]:
    return needle_tasks(lm, [4096], [0, 50, 100], 2, files=files, **{"seed": 1, **options})


def test_the_needle_stands_at_the_depth_that_is_asked_for(lm: LanguageModel, files: LocalFiles) -> None:
    tasks = asked(lm, files)
    labels = ["niah@4096/depth-0", "niah@4096/depth-50", "niah@4096/depth-100"]
    assert [task.label for task in tasks] == labels
    for task, depth in zip(tasks, (0, 0.5, 1), strict=True):
        for question in task.questions:
            before, needle, after = context(question).partition(NEEDLE)
            assert needle
            around = len(before) + len(after.partition(". ")[2])
            assert len(before) / around == pytest.approx(depth, abs=0.05)


def test_all_depths_hide_the_same_needles_in_a_full_haystack(lm: LanguageModel, files: LocalFiles) -> None:
    answers = [[question.example.answers for question in task.questions] for task in asked(lm, files)]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] != answers[0][1]
    for task in asked(lm, files):
        for question in task.questions:
            assert 2000 < question.input_ids(lm).shape[1] < 4096
            assert (question.max_new_tokens, question.metric) == (128, "ruler")
            assert question.score(f"It is {question.example.answers[0]}.") == 1


def test_more_needles_begin_with_the_same_ones(lm: LanguageModel, files: LocalFiles) -> None:
    few = needle_tasks(lm, [4096], [25], 2, seed=1, files=files)[0]
    many = needle_tasks(lm, [4096], [25], 6, seed=1, files=files)[0]
    other = needle_tasks(lm, [4096], [25], 2, seed=2, files=files)[0]
    assert [q.key for q in few.questions] == [q.key for q in many.questions[:2]]
    assert few.questions[0].key != other.questions[0].key


def test_the_question_moves_to_the_front(lm: LanguageModel, files: LocalFiles) -> None:
    (task, *_) = asked(lm, files, question_first=True)
    text = task.questions[0].example.messages[0].content
    assert text.startswith("What is the special magic number for ")
    assert task.label == "niah@4096/depth-0/first"


@pytest.mark.parametrize("depth", [-1, 101])
def test_a_depth_outside_the_haystack_is_refused(lm: LanguageModel, files: LocalFiles, depth: int) -> None:
    with pytest.raises(InputError, match=f"no depth of {depth} %"):
        needle_tasks(lm, [4096], [depth], 1, seed=0, files=files)


def test_a_length_without_room_for_a_haystack_is_refused(lm: LanguageModel, files: LocalFiles) -> None:
    with pytest.raises(InputError, match=r"does not fit into 400 tokens: ask for longer prompts$"):
        needle_tasks(lm, [400], [50], 1, seed=0, files=files)


def test_a_short_haystack_still_has_its_needle_at_its_depth(lm: LanguageModel, files: LocalFiles) -> None:
    tasks = needle_tasks(lm, [1024], [0, 100], 2, seed=0, files=files)
    for task, first in zip(tasks, (True, False), strict=True):
        for question in task.questions:
            (answer,) = question.example.answers
            assert question.input_ids(lm).shape[1] <= 1024
            assert (context(question).index(answer) < len(context(question)) / 2) == first


def test_notes_say_what_the_haystack_is(lm: LanguageModel, files: LocalFiles) -> None:
    for task in asked(lm, files):
        assert task.notes[0].startswith("The haystack is ")
        assert "essays.txt" in task.notes[0]
