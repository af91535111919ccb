"""The run over questions: every method from one prefill, resumable, nothing lost or counted twice."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import judgeq
from judgeq.config import Decoding, Selection
from judgeq.data.example import Example
from judgeq.errors import InputError
from judgeq.evaluation import runner
from judgeq.evaluation.journal import Journal
from judgeq.evaluation.questions import Question, Task
from judgeq.evaluation.runner import Measured, asked_of, run
from judgeq.inference import lookahead as reference
from judgeq.inference.decode_batch import FinishedAnswer, PendingAnswer, decode_together
from judgeq.methods import Full, JudgeQ, Method, Oracle, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT
from tests.test_profile import profile

DOCUMENT, WHAT = (TEXT * 2).strip(), "How tall is the lighthouse?"
SETUP = {"model": "tiny", "precision": "float32"}


def question(answers: tuple[str, ...] = ("31",), what: str = WHAT, **more: Any) -> Question:
    example = Example.asking(DOCUMENT, what, "test", answers=answers)
    return Question(dataclasses.replace(example, **more), max_new_tokens=8)


def measure(
    lm: LanguageModel,
    questions: list[Question],
    methods: list[Method],
    budgets: list[Any],
    tokens: SoftTokens | None = None,
) -> Measured:
    asked = asked_of({method.name: method for method in methods}, budgets)
    return run(lm, [Task("t", questions)], asked, tokens=tokens, journal=Journal(None, {}))[0]


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What the model was asked: the end of the prompt, and the names."""
    asked: list[tuple[str, list[str]]] = []
    answer_all = runner.answer_all

    def told(lm: LanguageModel, questions: list[Question], missing: list[list[Any]], tokens: Any) -> Any:
        asked.extend(
            (question.example.messages[0].content[-9:], [each.name for each in names])
            for question, names in zip(questions, missing, strict=True)
        )
        return answer_all(lm, questions, missing, tokens)

    monkeypatch.setattr(runner, "answer_all", told)
    return asked


def test_one_prefill_gives_every_method_the_answer_it_gives_alone(
    lm: LanguageModel, tokens: SoftTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods: list[Method] = [SnapKV(), Full(), JudgeQ(), Oracle()]
    options = {"tokens": tokens, "decoding": Decoding(max_new_tokens=8)}
    alone = {
        each.name: judgeq.ask(lm, DOCUMENT, WHAT, method=each.method, budget=each.budget, **options).text
        for each in asked_of({method.name: method for method in methods}, [40, 0.5])
    }
    passes = []
    prefill = reference.prefill
    monkeypatch.setattr(reference, "prefill", lambda *a, **k: passes.append(1) or prefill(*a, **k))
    found = measure(lm, [question(("never said",))], methods, [40, 0.5], tokens)
    assert len(passes) == 1
    names = ["snapkv@40", "snapkv@0.5", "full@1.0", "judgeq@40", "judgeq@0.5", "oracle@40", "oracle@0.5"]
    assert list(found.answers[0]) == names
    assert {name: rated.text for name, rated in found.answers[0].items()} == alone
    assert len(set(alone.values())) > 1


def test_right_answers_are_found_in_what_is_written_and_not_in_the_prefix(lm: LanguageModel) -> None:
    text = measure(lm, [question(("never said",))], [SnapKV()], [30]).answers[0]["snapkv@30"].text
    assert len(text) > 3
    questions = [
        question((text[1:-1].upper(),)),
        question((text, "no such words")),
        question(("The tower is",), answer_prefix="The tower is"),
    ]
    found = measure(lm, questions, [SnapKV()], [30]).answers
    assert [found[at]["snapkv@30"].score for at in range(3)] == [1.0, 0.5, 0.0]


@pytest.mark.parametrize("method", [SnapKV(), Full()], ids=["evicted", "full"])
def test_writing_ends_where_nothing_can_change_the_score(lm: LanguageModel, method: Method) -> None:
    asked = [SnapKV(), Oracle()] if method == SnapKV() else [Full(), Oracle()]
    name = "snapkv@30" if method == SnapKV() else "full@1.0"
    text = measure(lm, [question(("never said",))], asked, [30]).answers[0][name].text
    settled = measure(lm, [question((text[0],))], asked, [30]).answers[0][name]
    assert settled.score == 1.0
    assert text.startswith(settled.text)
    assert len(settled.text) < len(text)


def test_a_budget_that_covers_the_prompt_is_the_full_cache(lm: LanguageModel) -> None:
    found = measure(lm, [question(("never said",))], [SnapKV(), Full()], [1.0, 10_000]).answers[0]
    assert len({rated.text for rated in found.values()}) == 1


def test_a_learned_profile_reaches_the_methods(lm: LanguageModel, tokens: SoftTokens) -> None:
    method = SnapKV(selection=Selection(allocation="profile"))
    learned = dataclasses.replace(tokens, profile=profile(8, 64))
    assert measure(lm, [question()], [method], [16], learned).answers
    with pytest.raises(InputError, match="carry none"):
        measure(lm, [question()], [method], [16], tokens)


def test_bad_questions_are_refused_at_once(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **options: object) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr(reference, "prefill", never)
    too_long = Question(Example.asking("word " * 9000, WHAT, "test", answers=["a"]))
    for bad in (question(()), dataclasses.replace(question(), metric="bleu"), too_long):
        with pytest.raises(InputError):
            measure(lm, [question(), bad], [SnapKV()], [16])


def test_prompts_that_are_too_long_are_skipped_and_counted_where_that_is_asked_for(lm: LanguageModel) -> None:
    too_long = Question(Example.asking("word " * 9000, WHAT, "test", answers=["a"]))
    asked = asked_of({"full": Full()}, [])
    journal = Journal(None, {})
    task = Task("t", [too_long, question()])
    (found,) = run(lm, [task], asked, tokens=None, journal=journal, skip_long=True)
    assert (found.skipped, list(found.answers)) == (1, [1])
    unrated = Task("t", [dataclasses.replace(too_long, metric="bleu")])
    with pytest.raises(InputError, match="no metric"):
        run(lm, [unrated], asked, tokens=None, journal=journal, skip_long=True)


def test_tasks_take_turns_and_progress_is_told(
    lm: LanguageModel, answered: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"a": ("a1", "a2"), "b": ("b1",)}
    tasks = [Task(name, [question(what=f"Who is {who}?") for who in who_all]) for name, who_all in names.items()]
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(runner, "TOGETHER", 2)
    asked, journal = asked_of({"full": Full()}, []), Journal(None, {})
    run(lm, tasks, asked, tokens=None, journal=journal, progress=lambda *done: told.append(done))
    assert [end for end, _ in answered] == ["ho is a1?", "ho is b1?", "ho is a2?"]
    assert told == [(2, 3), (3, 3)]


def test_rows_that_wait_are_bounded_and_answers_stay_the_same(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks, asked = (
        [Task("t", [question(), question(what="Who?")])],
        asked_of({"full": Full(), "snapkv": SnapKV()}, [20]),
    )

    def told() -> tuple[list[int], list[Measured]]:
        together: list[int] = []

        def counted(lm: LanguageModel, answers: Sequence[PendingAnswer]) -> list[FinishedAnswer]:
            together.append(len(answers))
            return decode_together(lm, answers)

        monkeypatch.setattr(runner, "decode_together", counted)
        return together, run(lm, tasks, asked, tokens=None, journal=Journal(None, {}))

    (all_at_once, expected) = told()
    monkeypatch.setattr(runner, "TOGETHER_BYTES", 0)
    (one_by_one, found) = told()
    assert (all_at_once, one_by_one) == ([4], [1, 1, 1, 1])
    assert [each.answers for each in found] == [each.answers for each in expected]


def test_a_killed_run_goes_on_where_it_was(
    lm: LanguageModel, answered: list[tuple[str, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "TOGETHER", 1)
    path = tmp_path / "items.jsonl"
    questions = [question(what=f"Who is {at}?") for at in range(3)]
    tasks, asked = [Task("t", questions)], asked_of({"full": Full(), "snapkv": SnapKV()}, [20, 30])

    def go(limit: int = 9) -> list[Measured]:
        def stop(done: int, total: int) -> None:
            if done == limit:
                raise KeyboardInterrupt

        return run(lm, tasks, asked, tokens=None, journal=Journal(path, SETUP), progress=stop)

    with pytest.raises(KeyboardInterrupt):
        go(2)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "half a li')
    (resumed,) = go()
    assert [end for end, _ in answered] == ["Who is 0?", "Who is 1?", "Who is 2?"]
    assert path.read_bytes().startswith(whole)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(line["answers"]) > 0 for line in lines[1:]] == [True] * 3
    (fresh,) = run(lm, tasks, asked, tokens=None, journal=Journal(None, SETUP))
    assert resumed.answers == fresh.answers


def test_a_method_that_is_added_later_is_the_only_one_that_runs(
    lm: LanguageModel, answered: list[tuple[str, list[str]]], tmp_path: Path
) -> None:
    path, tasks = tmp_path / "items.jsonl", [Task("t", [question()])]
    few, more = asked_of({"full": Full()}, [30]), asked_of({"full": Full(), "snapkv": SnapKV()}, [30])
    run(lm, tasks, few, tokens=None, journal=Journal(path, SETUP))
    (found,) = run(lm, tasks, more, tokens=None, journal=Journal(path, SETUP))
    assert [names for _, names in answered] == [["full@1.0"], ["snapkv@30"]]
    assert set(found.answers[0]) == {"full@1.0", "snapkv@30"}


def test_answers_of_another_setup_are_refused_and_kept(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    asked = asked_of({"full": Full()}, [])
    run(lm, [Task("t", [question()])], asked, tokens=None, journal=Journal(path, SETUP))
    before = path.read_bytes()
    with pytest.raises(InputError, match="the precision 'float32' and this run has '4bit'"):
        Journal(path, {**SETUP, "precision": "4bit"})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["no JSON\n", "[1]\n", '{"setup": {}}\n{"key": 1}\n', '{"rows": []}\n'])
def test_a_file_of_something_else_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match="not a file of answers"):
        Journal(path, {})
    assert path.read_text() == content
    with pytest.raises(InputError, match="cannot be used"):
        Journal(tmp_path / "missing" / "items.jsonl", SETUP)


def test_a_run_out_of_time_keeps_all_that_is_known(lm: LanguageModel, tmp_path: Path) -> None:
    path, questions = tmp_path / "items.jsonl", [question(what=f"Who is {at}?") for at in range(6)]
    asked = asked_of({"full": Full()}, [])

    def go(which: list[Question], seconds: float | None = None) -> Measured:
        task = Task("t", which)
        return run(lm, [task], asked, tokens=None, journal=Journal(path, SETUP), seconds=seconds)[0]

    assert go(questions, seconds=-1).answers == {}
    go(questions[4:])
    assert list(go(questions, seconds=-1).answers) == [4, 5]
    assert len(path.read_text().splitlines()) == 3
