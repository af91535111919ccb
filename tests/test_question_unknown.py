"""Benchmarks in which rows are chosen before the question is known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import judgeq
from judgeq.config import Decoding
from judgeq.data.example import Example
from judgeq.errors import InputError
from judgeq.evaluation.journal import Journal
from judgeq.evaluation.questions import Question, Task
from judgeq.evaluation.runner import asked_of, run
from judgeq.methods import METHODS, Full, JudgeQ, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.test_runner import DOCUMENT, WHAT, measure, question

UNKNOWN = dataclasses.replace(question(("never said",)), unknown=(DOCUMENT, WHAT))


def test_answers_are_those_of_a_document_that_was_compressed_before(lm: LanguageModel) -> None:
    methods = [Full(), SnapKV(), JudgeQ(), METHODS["kvzip+"](), METHODS["expectedattention"]()]
    tokens = SoftTokens.initialise(lm, torch.arange(40, 44))
    document, decoding = judgeq.Document(lm, DOCUMENT), Decoding(max_new_tokens=8)
    found = measure(lm, [UNKNOWN], methods, [0.5, 0.25], tokens).answers[0]
    for each in asked_of({method.name: method for method in methods}, [0.5, 0.25]):
        small = document.compress(method=each.method, budget=each.budget, tokens=tokens)
        answer = small.ask(WHAT, decoding=decoding)
        assert (found[each.name].text, found[each.name].kv_bytes) == (answer.text, answer.kv_bytes)
    assert found["snapkv@0.25"].kv_bytes < found["snapkv@0.5"].kv_bytes < found["full@1.0"].kv_bytes


def test_it_is_another_question_than_with_the_question_in_view(lm: LanguageModel) -> None:
    assert UNKNOWN.key != question(("never said",)).key


@pytest.mark.parametrize(
    ("method", "asked", "message"),
    [
        ("laq", UNKNOWN, "there is no question yet"),
        ("kvzip", question(), r"use Document.compress\(method='kvzip'\)"),
    ],
)
def test_a_method_for_the_other_case_is_refused_before_anything_is_read(
    lm: LanguageModel, method: str, asked: Question, message: str
) -> None:
    methods = asked_of({method: METHODS[method]()}, [0.5])
    with pytest.raises(InputError, match=message):
        run(lm, [Task("t", [asked])], methods, tokens=None, journal=Journal(None, {}))


def test_any_question_about_a_document_can_be_asked_after_it() -> None:
    first = Question(Example.asking("The text.", "Who?", "t", question_first=True, answers="I"))
    asked = first.after_document()
    assert asked.unknown == ("The text.", "Who?")
    assert asked.example.messages == (Message("user", "The text.\n\nWho?"),)
    chat = (Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Who?"))
    with pytest.raises(InputError, match="A conversation has no document"):
        Question(Example(chat, "chat", ("I",))).after_document()
