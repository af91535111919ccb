"""Encyclopaedia prompts: every shape, the asked length, the same on every run, nothing from a benchmark."""

from __future__ import annotations

import random

import pytest

from judgeq.data import wiki
from judgeq.data.articles import Article, wiki_articles
from judgeq.data.example import Example
from judgeq.data.facts import COLUMNS, FACTS, TABLE_FORMS, Table, distinct
from judgeq.data.wiki import WikiSource
from judgeq.models.language_model import LanguageModel
from tests.test_training import ARTICLES


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiki, "wiki_articles", lambda held_out: ARTICLES[held_out::2])


def drawn(lm: LanguageModel, count: int = 300, seed: int = 3) -> list[Example]:
    return WikiSource().examples(lm, count, tokens=(60, 300), seed=seed)


def text(example: Example) -> str:
    return "\n".join(message.content for message in example.messages)


def test_every_shape_comes_and_the_same_seed_gives_the_same_examples(lm: LanguageModel) -> None:
    examples = drawn(lm)
    assert examples == drawn(lm)
    assert examples[:20] == drawn(lm, 20)
    assert examples != drawn(lm, seed=4)
    kinds = {"article", "facts", "table", "all", "several", "description", "continuation", "chat"}
    assert {example.kind for example in examples} == kinds
    for example in examples:
        assert example.input_ids(lm).shape[1] > 20


def test_answers_stand_in_the_text_and_prefixes_do_not_give_them_away(lm: LanguageModel) -> None:
    answered = [example for example in drawn(lm) if example.answers]
    assert len(answered) > 50
    for example in answered:
        for answer in example.answers:
            assert answer in text(example)
    led = [example for example in answered if example.kind == "facts" and example.answer_prefix]
    assert led
    for example in led:
        assert f"{example.answer_prefix} {example.answers[0]}" in text(example)


def test_documents_have_lengths_all_over_the_range(lm: LanguageModel) -> None:
    lengths = [
        len(lm.tokenizer(text(example))["input_ids"]) for example in drawn(lm) if example.kind == "all"
    ]
    assert min(lengths) < 120
    assert max(lengths) > 220


def test_questions_stand_before_and_after_the_document(lm: LanguageModel) -> None:
    firsts = [
        text(example).startswith("Summarize") for example in drawn(lm, 600) if "Summarize" in text(example)
    ]
    assert {True, False} == set(firsts)


def test_a_conversation_ends_with_the_user(lm: LanguageModel) -> None:
    chats = [example for example in drawn(lm) if example.kind == "chat"]
    assert {len(chat.messages) for chat in chats} == {3, 5}
    for chat in chats:
        assert [message.role for message in chat.messages] == ["user", "assistant"] * (
            len(chat.messages) // 2
        ) + ["user"]


def test_training_and_held_out_articles_are_apart(lm: LanguageModel) -> None:
    titles = [{article.title for article in ARTICLES[part::2]} for part in (0, 1)]
    assert not titles[0] & titles[1]
    unseen = WikiSource(held_out=True).examples(lm, 50, tokens=(60, 160), seed=0)
    shown = {title for example in unseen for title in titles[0] if f"{title} lies" in text(example)}
    assert not shown


@pytest.mark.embedded
def test_the_real_articles_fall_into_two_parts() -> None:
    train, held_out = wiki_articles(False), wiki_articles(True)
    assert not {article.title for article in train} & {article.title for article in held_out}
    assert 0.07 < len(held_out) / (len(train) + len(held_out)) < 0.13
    assert all(isinstance(article, Article) for article in train[:5])


@pytest.mark.parametrize("form", TABLE_FORMS)
def test_a_table_shows_every_cell(form: str) -> None:
    table = Table.draw(8, random.Random(1))
    shown = table.text(form)
    assert len({row[0] for row in table.rows}) == len(table.rows) == 8
    for row in table.rows:
        assert all(cell in shown for cell in row)


def test_facts_lead_up_to_their_value() -> None:
    for fact in FACTS:
        assert fact.sentence.startswith(fact.lead)
        assert "{value}" not in fact.lead
        assert "{subject}" in fact.question
    assert len(distinct(COLUMNS["day"], 30, random.Random(0))) == 7
