"""Generated prompts: every shape, the asked length, the same on every run, right answers, held-out texts apart."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from judgeq.data import chains, records, wiki
from judgeq.data.articles import Article, wiki_articles
from judgeq.data.chains import ChainsSource
from judgeq.data.code import CodeSource
from judgeq.data.example import Example
from judgeq.data.facts import COLUMNS, FACTS, TABLE_FORMS, Table, distinct
from judgeq.data.records import ExactSource, RecordsSource
from judgeq.data.wiki import WikiSource, plant_sentences
from judgeq.models.language_model import LanguageModel
from tests.test_training import ARTICLES

SOURCES = (WikiSource, RecordsSource, ExactSource, ChainsSource, CodeSource)
PASSAGES = ["One stands. Two stand. Three stand.", "Four stand. Five stand."]


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
        (ExactSource, "exact"),
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
    assert led or source in (ChainsSource, ExactSource)
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
        shown = {each.title for each in ARTICLES for example in found if f"{each.title} lies" in text(example)}
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


# Facts that have to be put together


def of_kind(lm: LanguageModel, kind: str) -> list[Example]:
    return [example for example in drawn(lm, ChainsSource) if example.kind == kind]


def test_questions_about_chains_stand_on_both_sides_and_some_answers_have_begun(lm: LanguageModel) -> None:
    questions = [re.split(r"\n\n", text(example))[-1] for example in drawn(lm, ChainsSource)]
    last = sum(bool(re.match("What|Which|Who|List|With|By|Where", question)) for question in questions)
    assert 110 < last < 170
    assert 50 < sum(bool(example.answer_prefix) for example in drawn(lm, ChainsSource)) < 110


def test_chains_are_as_long_as_asked_for(lm: LanguageModel) -> None:
    """In words, since the share of a filler is set for a tokenizer of usual size; what is planted comes on top."""
    middles = []
    for tokens in ((60, 120), (300, 400), (900, 1000)):
        found = ChainsSource().examples(lm, 60, tokens=tokens, seed=0)
        words = sorted(len(text(example).split()) for example in found)
        assert words[-1] < tokens[1] + 250
        middles.append(words[30])
    assert middles[0] < middles[1] < middles[2]


def test_a_thing_is_handed_on_in_the_order_of_the_text(lm: LanguageModel) -> None:
    for example in of_kind(lm, "handed"):
        said = text(example)
        thing = re.search(r"held the (\w+), in order|has the (\w+) in the end", said)
        name = thing[1] or thing[2]
        holders = re.findall(rf"At first the {name} belonged to (\w+ \w+)\.", said)
        holders += re.findall(rf"handed the {name} to (\w+ \w+)\.", said)
        assert list(example.answers) == (holders if thing[1] else holders[-1:])


def test_boxes_with_one_number_can_be_followed_back_to_it(lm: LanguageModel) -> None:
    for example in of_kind(lm, "same"):
        said = text(example)
        opens = dict(re.findall(r"Box (\S+) opens with (\d+)\.", said))
        for later, earlier in re.findall(r"Box (\S+) opens with the same number as box (\S+)\.", said):
            opens[later] = opens[earlier]
        if asked := re.search(r"open with the number (\d+)\?", said):
            assert set(example.answers) == {box for box, number in opens.items() if number == asked[1]}
        else:
            box = re.search(r"does box (\S+) open\?", said)
            assert list(example.answers) == [opens[box[1]]]


def test_a_tally_asks_for_no_more_than_stand_in_its_question(lm: LanguageModel) -> None:
    for example in of_kind(lm, "tally"):
        wanted = re.search(r"Name the (\d+) most frequent", text(example))
        assert len(example.answers) == int(wanted[1])
        assert all(text(example).count(answer) >= 4 for answer in example.answers)


def test_a_card_unlocks_what_its_line_says(lm: LanguageModel) -> None:
    for example in of_kind(lm, "codes"):
        asked = re.search(r"What does the card (\S+) unlock\?", text(example))
        assert f"The card {asked[1]} unlocks {example.answers[0]}." in text(example)


def test_sentences_are_planted_whole_in_order_or_out_of_it() -> None:
    sentences = [f"Planted {number}." for number in range(9)]
    for seed in range(20):
        found = plant_sentences(PASSAGES, sentences, random.Random(seed), in_order=True)
        assert re.findall(r"Planted \d\.", " ".join(found)) == sentences
        assert [re.sub(r"Planted \d\. ?", "", passage).strip() for passage in found] == PASSAGES
    found = [plant_sentences(PASSAGES, sentences, random.Random(seed)) for seed in range(5)]
    orders = {tuple(re.findall(r"Planted \d\.", " ".join(passages))) for passages in found}
    assert len(orders) > 1
    assert all(sorted(order) == sentences for order in orders)
