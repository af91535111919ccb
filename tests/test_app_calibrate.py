"""The page's calibration without a browser, on a tiny random model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from app import text
from app.sections.calibrate import results
from app.sections.calibrate.callbacks import CalibrationCallbacks
from app.server.calibrate_run import CalibrationRun, CalibrationTask, read_questions
from app.server.host import ModelHost
from app.server.limits import Limits
from app.server.zero import duration
from judgeq.errors import InputError
from judgeq.evaluation.calibration import BUDGETS, CalibrationQuestion
from judgeq.models.language_model import LanguageModel
from tests.server import DOCUMENT, tiny_host
from tests.waiting import until

QUESTIONS = "How tall is it?\nWho keeps it?\n\nThe lighthouse was built in …"


@pytest.fixture(scope="module")
def host(lm: LanguageModel) -> ModelHost:
    return tiny_host(lm)


@pytest.fixture
def section(host: ModelHost) -> CalibrationCallbacks:
    return CalibrationCallbacks(host)


def begin(section: CalibrationCallbacks, **changes: Any) -> CalibrationRun:
    values: dict[str, Any] = {
        "document": f"\n {DOCUMENT}",
        "question_first": False,
        "max_new_tokens": 4,
        "questions": QUESTIONS,
        "method": "judgeq",
        "survive": 0.9,
        "confidence": 0.9,
    }
    return section.begin(**{**values, **changes})[0]


@pytest.fixture(autouse=True)
def _no_run_is_left_behind() -> Iterator[None]:
    yield
    until(lambda: not any(thread.name == "judgeq-run" for thread in threading.enumerate()))


def test_a_calibration_is_drawn_and_says_what_it_found(section: CalibrationCallbacks) -> None:
    run = begin(section)
    *_, (status, panel, figure, numbers) = section.follow(run)
    assert run.phase == "done"
    assert run.found is not None
    assert run.found.questions == 3
    assert "No budget is shown to be safe" in status
    assert "more questions would be enough there" in status
    assert panel["visible"] is True
    assert len(figure.data[1].x) == len(BUDGETS)
    assert numbers.count("<tr") == len(BUDGETS) + 1
    assert text.CALIBRATE_PROMISE.split("“")[0] in numbers
    assert run.task.document == DOCUMENT.strip()


def test_a_safe_budget_is_marked_in_the_table(section: CalibrationCallbacks) -> None:
    run = begin(section, survive=0.8, confidence=0.8, questions="Who?\n" * 8, max_new_tokens=1)
    list(section.follow(run))
    assert run.found is not None
    assert run.found.budget == min(BUDGETS), "the first token is chosen before anything is evicted"
    numbers = results.numbers(run)
    assert numbers.count("chosen") == 1
    assert numbers.count(f"<strong>{text.CALIBRATE_SAFE}") == len(BUDGETS)
    assert text.CALIBRATE_NOTHING_BROKE in numbers
    assert run.found.sentence in results.status_of(run)


def test_what_is_asked_and_answered_is_never_html(section: CalibrationCallbacks) -> None:
    hostile = "<script>alert(1)</script>"
    run = begin(section, questions=f"{hostile}\n{hostile} => {hostile}\nWho?")
    list(section.follow(run))
    assert run.found is not None
    assert run.found.set_aside == (1,)
    numbers = results.numbers(run)
    assert "<script" not in numbers
    assert "&lt;script&gt;" in numbers


def test_questions_are_proposed_from_the_document(section: CalibrationCallbacks) -> None:
    told = "The lighthouse of Farrow was built in 1874. It burns for 7 hours.\nThe mast of the ship is 31 metres tall."
    questions, said = section.propose(told)
    assert questions.splitlines() == [
        "The lighthouse of Farrow was built in … => 1874",
        "The mast of the ship is … => 31",
    ]
    assert "2 sentences of the document" in said
    with pytest.raises(gr.Error, match="leads up to a number or a name"):
        section.propose("nothing here")
    with pytest.raises(gr.Error, match="document is empty"):
        section.propose(" ")


def test_cancel_stops_the_work_itself(section: CalibrationCallbacks) -> None:
    run = begin(section)
    real = run._on_layer

    def on_layer(done: int, layers: int) -> None:
        if run.answered:
            run.cancel()
        real(done, layers)

    run._on_layer = on_layer  # type: ignore[method-assign]
    list(section.follow(run))
    assert run.phase == "stopped"
    assert len(run.answered) == 1
    assert "fewer questions than planned promise nothing" in section.stop(run)
    assert section.stop(None) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"document": " "}, "document is empty"),
        ({"questions": " \n"}, "There are no questions"),
        ({"questions": "=> 31"}, "A question is empty"),
        ({"questions": "Who?\n" * 201}, "201 questions are too many: give at most 200"),
        ({"questions": "x" * 10_001}, "10,001 characters"),
        ({"questions": "x" * 1_000_001}, "The questions have 1,000,001 characters"),
        ({"questions": "half \ud83d"}, "half a character"),
        ({"questions": None}, "neither a text nor a list"),
        ({"method": None}, "No method is chosen"),
        ({"method": "magic"}, "There is no method"),
        ({"survive": "much"}, "is not a number"),
        ({"survive": 1.0}, "risk is 0"),
        ({"confidence": 7}, "confidence is 7"),
        ({"max_new_tokens": 2.5}, "not a whole number"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_a_sentence(
    section: CalibrationCallbacks, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(gr.Error, match=message):
        begin(section, **changes)


def test_a_document_that_is_too_long_is_refused(section: CalibrationCallbacks) -> None:
    run = begin(section, document=DOCUMENT * 40)
    with pytest.raises(gr.Error, match=r"Question 1: The prompt has .* shorten the document"):
        list(section.follow(run))
    assert "status failed" in results.status_of(run)


def test_programs_may_send_questions_as_a_list() -> None:
    assert read_questions(["a?", "b …"], Limits()) == read_questions("a?\nb …", Limits())
    with pytest.raises(InputError, match="neither a text nor a list"):
        read_questions(["a?", 7], Limits())


def test_the_time_asked_for_grows_with_the_questions() -> None:
    few, many = (CalibrationTask.of("x", (CalibrationQuestion("?"),) * count, max_new_tokens=16) for count in (2, 100))
    assert duration(few, 1000, 10**9) < duration(many, 1000, 10**9)
