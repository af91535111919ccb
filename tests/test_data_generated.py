"""Generated prompts: every shape, the asked length, the same on every run, and held-out texts apart."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from judgeq.data import chains, records, wiki
from judgeq.data.articles import Article, wiki_articles
from judgeq.data.chains import ChainsSource
from judgeq.data.code import CodeSource
from judgeq.data.example import Example
from judgeq.data.facts import COLUMNS, FACTS, TABLE_FORMS, Table, distinct
from judgeq.data.records import RecordsSource
from judgeq.data.wiki import WikiSource
from judgeq.models.language_model import LanguageModel
from tests.test_training import ARTICLES

SOURCES = (WikiSource, RecordsSource, ChainsSource, CodeSource)


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (wiki, records, chains):
        monkeypatch.setattr(module, "wiki_articles", lambda held_out: ARTICLES[held_out::2])


def drawn(lm: LanguageModel, source: type = WikiSource, count: int = 200, seed: int = 3) -> list[Example]:
    return source().examples(lm, count, tokens=(60, 300), seed=seed)


def text(example: Example) -> str:
    return "\n".join(message.content for message in example.messages)


@pytest.mark.parametrize("source", SOURCES)
def test_the_first_examples_stay_the_same_for_a_seed(lm: LanguageModel, source: type) -> None:
    assert drawn(lm, source, 20) == drawn(lm, source, 40)[:20]
    assert drawn(lm, source, 20) != drawn(lm, source, 20, seed=4)


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        (WikiSource, "article facts table all several description continuation chat"),
        (RecordsSource, "records"),
        (ChainsSource, "handed same tally values codes dialogue"),
    ],
)
def test_every_shape_has_its_answers_in_the_text(lm: LanguageModel, source: type, kinds: str) -> None:
    examples = drawn(lm, source, 300)
    assert {example.kind for example in examples} == set(kinds.split())
    assert min(Counter(example.kind for example in examples).values()) >= 8
    answered = [example for example in examples if example.answers]
    assert len(answered) > 50
    for example in answered:
        assert all(answer in text(example) for answer in example.answers)
    led = [example for example in answered if example.kind in ("facts", "records") and example.answer_prefix]
    assert led or source is ChainsSource
    for example in led:
        assert f"{example.answer_prefix} {example.answers[0]}" in text(example)


@pytest.mark.parametrize(("source", "low", "high"), [(WikiSource, 3, 29), (RecordsSource, 80, 160)])
def test_questions_stand_on_both_sides(lm: LanguageModel, source: type, low: int, high: int) -> None:
    if source is WikiSource:
        asked = [example for example in drawn(lm, count=300) if "Summarize" in text(example)]
        last = sum(not text(example).startswith("Summarize") for example in asked)
    else:
        last = sum(text(example).endswith("?") for example in drawn(lm, source))
    assert low < last < high


def test_documents_have_lengths_all_over_the_range(lm: LanguageModel) -> None:
    examples = [example for example in drawn(lm, count=300) if example.kind == "all"]
    lengths = [len(lm.tokenizer(text(example))["input_ids"]) for example in examples]
    assert min(lengths) < 120
    assert max(lengths) > 220


def test_a_conversation_ends_with_the_user(lm: LanguageModel) -> None:
    chats = [example for example in drawn(lm, count=300) if example.kind == "chat"]
    assert {len(chat.messages) for chat in chats} == {3, 5}
    for chat in chats:
        roles = [message.role for message in chat.messages]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


@pytest.mark.parametrize("source", [WikiSource, RecordsSource, ChainsSource])
def test_held_out_articles_are_not_trained_on(lm: LanguageModel, source: type) -> None:
    for held_out in (False, True):
        found = source(held_out).examples(lm, 60, tokens=(60, 160), seed=0)
        shown = {
            each.title for each in ARTICLES for example in found if f"{each.title} lies" in text(example)
        }
        assert shown
        assert shown <= {each.title for each in ARTICLES[held_out::2]}


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
