"""The beginning of an answer, proposed from the question alone."""

from __future__ import annotations

import time

import pytest

import judgeq
from judgeq.errors import InputError
from judgeq.prompts.answer_start import LONGEST

FITTING = {
    "Who signs?": "The person who signs is",
    "Who is the landlady?": "The landlady is",
    "Who is responsible for the keys?": "The person who is responsible for the keys is",
    "How tall is the lighthouse?": "The lighthouse is",
    "How much will the repair of the footbridge cost?": "The repair of the footbridge will cost",
    "how long does the journey take": "The journey takes",
    "When does the ferry leave on Sundays?": "The ferry leaves",
    "When was the lighthouse built?": "The lighthouse was built",
    "When will the next meeting be held?": "The next meeting will be held",
    "Where is the spare key?": "The spare key is",
    "At what time does the last bus to Ord leave on weekdays?": "The last bus to Ord leaves on weekdays at",
    "On the roof of which building does Anna keep bees?": "Anna keeps bees on the roof of",
    "What is Anna allergic to?": "Anna is allergic to",
    "What did they carry?": "They carried",
    "Which number is filed for A 7 in the text?": "The number filed for A 7 in the text is",
    "Which wax came as flakes?": "The wax that came as flakes is",
}


@pytest.mark.parametrize(("question", "prefix"), FITTING.items())
def test_a_question_begins_its_answer(question: str, prefix: str) -> None:
    assert judgeq.propose_answer_prefix(question) == prefix
    assert judgeq.propose_answer_prefix(f"  {question.replace(' ', '  ')}\n") == prefix


@pytest.mark.parametrize(
    "question",
    [
        "Hi. Who signs?",
        "Who signs, and when does it end?",
        "How old are you?",
        "Wer unterschreibt?",
        "the " * LONGEST,
    ],
)
def test_what_no_single_question_about_the_text_is_gets_nothing(question: str) -> None:
    assert judgeq.propose_answer_prefix(question) == ""


@pytest.mark.parametrize(
    "question",
    [
        "",
        "?",
        "Why did it fail?",
        "How does it work?",
        "List the samples.",
        "Is the door open?",
        "What happened?",
    ],
)
def test_where_no_rule_fits_nothing_is_proposed(question: str) -> None:
    assert judgeq.propose_answer_prefix(question) == ""


@pytest.mark.parametrize("words", ["is the a ", "do the x ", "does it keep ", "a ", "On what do a will "])
def test_no_question_takes_long(words: str) -> None:
    began = time.perf_counter()
    judgeq.propose_answer_prefix(("what " + words * LONGEST)[:LONGEST])
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("question", [None, 5, "half \udcfc"])
def test_what_is_no_text_is_refused(question: object) -> None:
    with pytest.raises(InputError):
        judgeq.propose_answer_prefix(question)  # type: ignore[arg-type]
