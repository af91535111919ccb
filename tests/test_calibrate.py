"""How small is safe: the bound holds as often as it says, and a calibration is what asking at each budget gives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import judgeq
from judgeq.cli import main
from judgeq.config import Decoding
from judgeq.errors import InputError
from judgeq.evaluation.calibration import binomial
from judgeq.evaluation.calibration.plan import CalibrationPlan
from judgeq.evaluation.calibration.questions import (
    COMPLETE,
    CalibrationQuestion,
    propose_questions,
    questions_from_file,
    questions_from_text,
)
from judgeq.evaluation.calibration.result import Answered, Calibration
from judgeq.evaluation.journal import Journal, Rated
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT

DOCUMENT = f"{TEXT}The keeper is called Aldous. {TEXT}"
QUESTIONS = ["How tall is the lighthouse?", "Who keeps it?", "When was it built?"]
DRAWS = 10_000
MARGIN = 0.01
"""More than three standard deviations of a share over so many draws."""


# The statistics


@pytest.mark.parametrize("trials", [1, 22, 90])
@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_each_bound_holds_as_often_as_it_says(trials: int, rate: float, confidence: float) -> None:
    counts = np.random.default_rng(trials).binomial(trials, rate, DRAWS)
    high, low = (
        np.array([bound(count, trials, confidence) for count in range(trials + 1)])[counts]
        for bound in (binomial.highest, binomial.lowest)
    )
    assert (rate <= high).mean() >= confidence - MARGIN
    assert (low <= rate).mean() >= confidence - MARGIN


@pytest.mark.parametrize("trials", [30, 60, 200])
@pytest.mark.parametrize("rates", [(0.01, 0.05, 0.101, 0.3), (0.101, 0.101, 0.101), (0.0, 0.02, 0.12, 0.12, 0.5)])
def test_the_chosen_budget_is_safe_as_often_as_promised(trials: int, rates: tuple[float, ...]) -> None:
    """Loses are nested, as where a question that breaks at a budget breaks at every smaller one."""
    risk, confidence = 0.1, 0.9
    broken = np.random.default_rng(7).random((DRAWS, trials, 1)) < np.array(rates)
    losses = broken.sum(axis=1)
    table = np.array([binomial.shows(lost, trials, risk, confidence) for lost in range(trials + 1)])
    safe = table[losses].cumprod(axis=1).sum(axis=1)
    assert [binomial.passed(row.tolist(), trials, risk, confidence) for row in losses[:20]] == safe[:20].tolist()
    first_unsafe = next(at for at, rate in enumerate(rates) if rate > risk)
    wrong = (safe > first_unsafe).mean()
    assert wrong <= 1 - confidence + MARGIN
    if trials == 200:
        assert wrong > 0.01, "else the test is so careful that it never says anything"


def test_the_bounds_are_exact() -> None:
    assert binomial.highest(0, 22, 0.9) == pytest.approx(1 - 0.1 ** (1 / 22))
    assert binomial.lowest(22, 22, 0.9) == pytest.approx(0.1 ** (1 / 22))
    assert binomial.highest(3, 3, 0.9) == 1.0
    assert binomial.lowest(0, 3, 0.9) == pytest.approx(0.0)
    assert not binomial.shows(0, 21, 0.1, 0.9)
    assert binomial.shows(0, 22, 0.1, 0.9)
    assert binomial.more_trials(0, 1, 0.1, 0.9) == 21
    assert binomial.more_trials(0, 22, 0.1, 0.9) == 0
    more = binomial.more_trials(5, 30, 0.1, 0.9)
    assert binomial.shows(5, 30 + more, 0.1, 0.9)
    assert not binomial.shows(5, 29 + more, 0.1, 0.9)


# What a calibration says


def answered(breaks_below: float, at: int = 0, budgets: tuple[float, ...] = (0.4, 0.2, 0.1)) -> Answered:
    """A question whose answer is lost below a budget."""
    texts = ["It is 31." if budget >= breaks_below else "no" for budget in budgets]
    return Answered(
        CalibrationQuestion(f"Question {at}?"),
        1000,
        Rated("it is 31", 1.0, 10_000),
        tuple(Rated(text, 0.0, round(10_000 * budget)) for text, budget in zip(texts, budgets, strict=True)),
        tuple(round(1000 * budget) for budget in budgets),
    )


def concluded(rows: list[Answered], **changes: Any) -> Calibration:
    promise = {"model": "tiny", "method": "snapkv", "risk": 0.1, "confidence": 0.9, **changes}
    return Calibration.of(rows, (0.4, 0.2, 0.1), **promise)


def test_the_smallest_budget_that_passes_is_chosen_and_named_with_both_sides() -> None:
    found = concluded([answered(0.1, at) for at in range(36)] + [answered(0.2, 90), answered(0.4, 91)])
    assert found.budget == 0.2
    assert [point.survived for point in found.points] == [38, 37, 36]
    assert [point.safe for point in found.points] == [True, True, False]
    assert [(each.question, each.budget) for each in found.lost] == [
        ("Question 91?", 0.2),
        ("Question 90?", 0.1),
    ]
    assert found.sentence == (
        "SnapKV keeps the full cache’s answer to at least 90 % of such questions with 20 % of the rows (200), "
        "2.00 kB instead of 10.0 kB: 37 of 38 survived, which shows it with 90 % confidence."
    ).replace(" %", "\N{NO-BREAK SPACE}%", 1).replace("90 % confidence", "90\N{NO-BREAK SPACE}% confidence")
    assert json.loads(json.dumps(found.to_dict()))["budget"] == 0.2
    assert found.lines()[-1] == found.sentence


def test_without_a_safe_budget_it_says_how_many_more_questions_it_takes() -> None:
    found = concluded([answered(0.1, at) for at in range(12)])
    assert found.budget is None
    assert found.more_questions == 10
    assert "10 more questions would be enough there" in found.sentence
    assert concluded([answered(0.0, at) for at in range(22)]).more_questions == 0


def test_a_larger_budget_that_fails_ends_the_sequence() -> None:
    rows = [answered(0.0, at) for at in range(40)]
    broken = Rated("no", 0.0)
    rows = [
        Answered(each.question, 1000, each.full, (broken, *each.answers[1:]) if at < 9 else each.answers, each.rows)
        for at, each in enumerate(rows)
    ]
    found = concluded(rows)
    assert found.points[1].survived == 40
    assert found.budget is None


def test_expected_answers_count_where_the_full_cache_finds_them() -> None:
    question = CalibrationQuestion("How tall?", answer="31")
    assert question.survives("It is 31 metres.", "31!")
    assert not question.survives("It is 31 metres.", "It is tall.")
    right, wrong = (
        Answered(question, 10, Rated(text, 1.0), (Rated("31", 1.0),) * 3, (4, 2, 1)) for text in ("31 m", "no")
    )
    found = concluded([right, wrong, right])
    assert (found.questions, found.set_aside) == (2, (1,))
    with pytest.raises(InputError, match="finds none of the expected answers"):
        concluded([wrong])


@pytest.mark.parametrize(
    ("full", "text", "survives"),
    [("The 31.", "31", True), ("31", "32", False), ("...", "...", True), ("...", "!", False), ("", "", True)],
)
def test_without_an_expected_answer_the_text_survives_after_normalisation(full: str, text: str, survives: bool) -> None:
    assert CalibrationQuestion("?").survives(full, text) is survives


def test_the_figure_has_the_curve_its_band_and_what_is_asked_for() -> None:
    figure = concluded([answered(0.2, at) for at in range(40)]).to_figure()
    band, line = figure.data
    assert list(line.x) == pytest.approx([10, 20, 40])
    assert list(line.y) == [0, 100, 100]
    assert len(band.x) == 6
    assert figure.layout.shapes[0].y0 == 90


# Questions


@pytest.mark.parametrize(
    ("line", "question", "answer", "prefix"),
    [
        (" What is it? ", "What is it?", "", ""),
        ("The mast is …", COMPLETE, "", "The mast is"),
        ("The mast is ...  => 31 metres", COMPLETE, "31 metres", "The mast is"),
        ("How tall? => 31", "How tall?", "31", ""),
        ("…", "…", "", ""),
    ],
)
def test_a_line_is_a_question_or_a_begun_sentence(line: str, question: str, answer: str, prefix: str) -> None:
    read = CalibrationQuestion.from_line(line)
    assert read == CalibrationQuestion(question, answer, prefix)
    assert CalibrationQuestion.from_line(read.line) == read


def test_typed_questions_are_one_a_line() -> None:
    assert [each.question for each in questions_from_text("a?\n\n  b? \r\n")] == ["a?", "b?"]
    with pytest.raises(InputError, match="A question is empty"):
        questions_from_text("=> 31")


def test_proposed_questions_are_begun_sentences_of_the_document() -> None:
    document = (
        "The lighthouse of Farrow was built in 1874 and is tall. Nothing here. Its first keeper was a man called "
        "Aldous Bell.\nThe town of Farrow lies in Farrow. The mast of the ship is long, and the ship has 3 masts!"
    )
    found = propose_questions(document, 10)
    assert [each.line for each in found] == [
        "The lighthouse of Farrow was built in … => 1874",
        "Its first keeper was a man called … => Aldous Bell",
        "The mast of the ship is long, and the ship has … => 3",
    ]
    assert [each.answer for each in propose_questions(document, 2)] == ["1874", "Aldous Bell"]
    for each in found:
        assert f"{each.answer_prefix} {each.answer}" in document
    assert propose_questions("nothing at all here.") == []
    assert propose_questions(" " * 1_000_000 + "x" * 100_000 + "1-" * 100_000) == []
    with pytest.raises(InputError, match="count is 0"):
        propose_questions(document, 0)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_a_file_names_documents_or_holds_them(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(DOCUMENT, encoding="utf-8")
    path = write(
        tmp_path / "questions.jsonl",
        {"document": "The sea.", "question": "What?", "answer": "sea"},
        "",
        {"document_file": "text.txt", "question": "Who?"},
        {"document_file": "text.txt", "answer_prefix": "The keeper is called"},
    )
    documents, questions = questions_from_file(path)
    assert documents == ["The sea.", DOCUMENT, DOCUMENT]
    assert documents[1] is documents[2]
    assert questions == [
        CalibrationQuestion("What?", "sea"),
        CalibrationQuestion("Who?"),
        CalibrationQuestion(COMPLETE, "", "The keeper is called"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: not a JSON object"),
        ({"question": "?"}, 'line 2: give either "document" or "document_file"'),
        (
            {"document": "x", "document_file": "y", "question": "?"},
            'give either "document" or "document_file"',
        ),
        ({"document": "x"}, '"question" is not a text'),
        ({"document": "x", "question": 7}, '"question" is not a text'),
        ({"document": " ", "question": "?"}, '"document" is not a text'),
        ({"document": "x", "question": "?", "answer": ["a"]}, '"answer" is not a text'),
        ({"document_file": "none.txt", "question": "?"}, "none.txt"),
        ('{"document": "\\ud800", "question": "?"}', "half a character"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path / "bad.jsonl", {"document": "x", "question": "?"}, row)
    with pytest.raises(InputError, match=message.replace("{", "\\{").replace("[", "\\[")):
        questions_from_file(path)


# With a model


@pytest.fixture
def soft(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.arange(40, 44))


def calibrated(lm: LanguageModel, documents: Any = DOCUMENT, questions: Any = QUESTIONS, **options: Any) -> Calibration:
    soft = SoftTokens.initialise(lm, torch.arange(40, 44))
    options = {"tokens": soft, "max_new_tokens": 6, "budgets": (0.1, 0.5, 1.0), **options}
    return judgeq.calibrate(lm, documents, questions, **options)


@pytest.mark.parametrize("method", ["judgeq", "snapkv"])
def test_it_is_what_asking_at_each_budget_gives(lm: LanguageModel, soft: SoftTokens, method: str) -> None:
    found = calibrated(lm, method=method)
    assert [point.budget for point in found.points] == [1.0, 0.5, 0.1]
    assert found.points[0].survived == 3, "all rows lose nothing"
    for point in found.points:
        answers = [
            judgeq.ask(
                lm, DOCUMENT, each, method=method, budget=point.budget, tokens=soft,
                decoding=Decoding(max_new_tokens=6),
            )
            for each in QUESTIONS
        ]  # fmt: skip
        full = [
            judgeq.ask(lm, DOCUMENT, each, method="full", decoding=Decoding(max_new_tokens=6)) for each in QUESTIONS
        ]
        same = [CalibrationQuestion("?").survives(a.text, b.text) for a, b in zip(full, answers, strict=True)]
        assert point.survived == sum(same)
        assert point.kv_bytes == round(sum(each.kv_bytes for each in answers) / 3)
        assert point.rows == pytest.approx(sum(each.budget for each in answers) / 3)
    assert found.points[-1].survived < 3, "else nothing is shown"
    assert found.full_kv_bytes == round(sum(each.full_kv_bytes for each in full) / 3)


def test_a_document_is_read_once_for_its_questions(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    forward = lm.model.forward

    def counted(*args: Any, **kwargs: Any) -> Any:
        ids = kwargs.get("input_ids")
        read.append((ids if ids is not None else kwargs["inputs_embeds"]).shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(lm.model, "forward", counted)
    found = calibrated(lm, method="snapkv")
    assert sum(tokens > 1 for tokens in read) == 1 + len(QUESTIONS)
    assert max(read[1:]) < found.prompt_tokens / 2


def test_a_run_that_is_stopped_goes_on_and_ends_as_one_in_one_go(lm: LanguageModel, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    path = tmp_path / "calibrate.items.jsonl"
    with pytest.raises(Stop):
        calibrated(lm, journal=Journal(path, {"model": "tiny"}), progress=stop)
    assert len(path.read_text().splitlines()) == 2
    with path.open("a") as file:
        file.write('{"key": "half a li')
    seen: list[int] = []
    resumed = calibrated(lm, journal=Journal(path, {"model": "tiny"}), progress=lambda done, total: seen.append(done))
    assert seen == [1, 2, 3]
    assert resumed == calibrated(lm)
    assert resumed == calibrated(lm, journal=Journal(path, {"model": "tiny"}), on_layer=lambda *_: pytest.fail("read"))
    more = calibrated(lm, journal=Journal(path, {"model": "tiny"}), budgets=(0.1, 0.3))
    assert more.points[-1] == resumed.points[-1]


def test_it_can_be_cancelled_at_every_token(lm: LanguageModel) -> None:
    class Stop(Exception):
        pass

    calls: list[int] = []
    calibrated(lm, questions=QUESTIONS[:1], on_layer=lambda done, layers: calls.append(done))
    for last in (1, lm.geometry.layers + 1, len(calls)):
        seen: list[int] = []

        def stop(done: int, layers: int, last: int = last, seen: list[int] = seen) -> None:
            seen.append(done)
            if len(seen) == last:
                raise Stop

        with pytest.raises(Stop):
            calibrated(lm, questions=QUESTIONS[:1], on_layer=stop)
        assert len(seen) == last


def test_a_begun_sentence_and_one_document_each(lm: LanguageModel) -> None:
    asked = [CalibrationQuestion(COMPLETE, "", "The keeper is called"), "How tall is it?"]
    found = calibrated(lm, [DOCUMENT, TEXT], asked, question_first=True, budgets=64)
    assert found.questions == 2
    assert found.points[0].rows == 64


def test_the_command_writes_what_it_found_and_goes_on_from_its_journal(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("judgeq.models.loading.load", lambda *_, **__: lm)
    rows = [{"document": DOCUMENT, "question": each} for each in QUESTIONS * 2]
    data, out = write(tmp_path / "questions.jsonl", *rows), tmp_path / "found.json"
    command = ["calibrate", "--data", str(data), "--method", "snapkv", "--max-new-tokens", "4", "--check"]
    command += ["--budgets", "1.0,0.1", "--risk", "0.8", "--confidence", "0.6", "--json", str(out)]
    assert main(command) == 0
    printed, found = capsys.readouterr().out, json.loads(out.read_text())
    assert found["sentence"] in printed
    assert found["questions"] == found["check"]["questions"] == 3
    assert (tmp_path / "found.items.jsonl").read_text().count("\n") == 1 + len(QUESTIONS)
    monkeypatch.setattr(CalibrationPlan, "_write", lambda *_: pytest.fail("answered again"))
    assert main(command) == 0
    assert json.loads(out.read_text()) == found
    for words, said in (
        (["--risk", "2"], "risk is 2.0: give a share between 0 and 1"),
        (["--budgets", "much"], "not a number"),
        (["--data", str(tmp_path / "none.jsonl")], "There is no file"),
    ):
        capsys.readouterr()
        assert main([*command, *words]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_the_page_about_it_runs_as_it_stands_there(
    lm: LanguageModel, soft: SoftTokens, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).resolve().parents[1] / "docs" / "calibrate.md").read_text(encoding="utf-8")
    monkeypatch.setattr(judgeq, "load", lambda name: lm, raising=False)
    monkeypatch.setattr(SoftTokens, "for_model", lambda lm, name=None, **how: soft)
    names: dict[str, Any] = {"text": DOCUMENT, "questions": QUESTIONS}
    for code in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        exec(code, names)
    shown = capsys.readouterr().out
    assert shown.count(names["found"].sentence) == 2
    assert shown.count("breaks at") == len(names["found"].lost)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"questions": []}, "no questions"),
        ({"questions": [" "]}, "A question is empty"),
        ({"questions": [7]}, "type int and not a text"),
        ({"documents": [DOCUMENT]}, "1 documents for 3 questions"),
        ({"documents": " "}, "document is empty"),
        ({"documents": "x" * 9000}, "Question 1: The prompt has .* shorten the document"),
        ({"budgets": []}, "no budgets"),
        ({"budgets": (0.1, 64)}, "give one kind"),
        ({"budgets": 0.0}, "budget is a share of 0.0"),
        ({"risk": 0}, "risk is 0: give a share between 0 and 1"),
        ({"risk": "much"}, "risk is 'much'"),
        ({"confidence": 1.0}, "confidence is 1.0"),
        ({"confidence": float("nan")}, "confidence is nan"),
        ({"method": "full"}, "The full cache loses nothing"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(lm: LanguageModel, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        calibrated(lm, on_layer=lambda *_: pytest.fail("something was read"), **options)
