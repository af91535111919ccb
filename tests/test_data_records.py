"""Records to look up: many alike, one asked for, none of evaluation's wording."""

from __future__ import annotations

import pytest

from judgeq.data import records
from judgeq.data.example import Example
from judgeq.data.records import RecordsSource
from judgeq.models.language_model import LanguageModel
from tests.test_training import ARTICLES


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "wiki_articles", lambda held_out: ARTICLES[held_out::2])


def drawn(lm: LanguageModel, count: int = 200, seed: int = 3) -> list[Example]:
    return RecordsSource().examples(lm, count, tokens=(60, 300), seed=seed)


def test_the_same_seed_gives_the_same_examples(lm: LanguageModel) -> None:
    assert drawn(lm)[:20] == drawn(lm, 20)
    assert drawn(lm, 20) != drawn(lm, 20, seed=4)


def test_the_answer_stands_in_the_document_behind_its_lead(lm: LanguageModel) -> None:
    examples = drawn(lm)
    led = [example for example in examples if example.answer_prefix]
    assert 60 < len(led) < 160
    for example in examples:
        assert example.answers[0] in example.messages[0].content
    for example in led:
        assert f"{example.answer_prefix} {example.answers[0]}" in example.messages[0].content


def test_questions_stand_before_and_after_the_document(lm: LanguageModel) -> None:
    last = sum(example.messages[0].content.endswith("?") for example in drawn(lm))
    assert 80 < last < 160
