"""Facts that have to be put together: every shape, what stands in the text, and none of evaluation's wording."""

from __future__ import annotations

import random
import re

import pytest

from judgeq.data import chains
from judgeq.data.chains import ChainsSource
from judgeq.data.example import Example
from judgeq.data.wiki import plant_sentences
from judgeq.models.language_model import LanguageModel
from tests.test_training import ARTICLES

KINDS = {"handed", "same", "tally", "values", "codes", "dialogue"}
PASSAGES = ["One stands. Two stand. Three stand.", "Four stand. Five stand."]


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "wiki_articles", lambda held_out: ARTICLES[held_out::2])


def drawn(lm: LanguageModel, count: int = 200, seed: int = 3) -> list[Example]:
    return ChainsSource().examples(lm, count, tokens=(60, 300), seed=seed)


def text_of(example: Example) -> str:
    return example.messages[0].content


def of_kind(lm: LanguageModel, kind: str) -> list[Example]:
    return [example for example in drawn(lm) if example.kind == kind]


def test_questions_stand_on_both_sides_and_some_answers_have_begun(lm: LanguageModel) -> None:
    questions = [re.split(r"\n\n", text_of(example))[-1] for example in drawn(lm)]
    last = sum(bool(re.match("What|Which|Who|List|With|By|Where", question)) for question in questions)
    assert 110 < last < 170
    assert 50 < sum(bool(example.answer_prefix) for example in drawn(lm)) < 110


def test_documents_are_as_long_as_asked_for(lm: LanguageModel) -> None:
    """In words, since the share of a filler is set for a tokenizer of usual size; what is planted comes on top."""
    middles = []
    for tokens in ((60, 120), (300, 400), (900, 1000)):
        found = ChainsSource().examples(lm, 60, tokens=tokens, seed=0)
        words = sorted(len(text_of(example).split()) for example in found)
        assert words[-1] < tokens[1] + 250
        middles.append(words[30])
    assert middles[0] < middles[1] < middles[2]


def test_a_thing_is_handed_on_in_the_order_of_the_text(lm: LanguageModel) -> None:
    for example in of_kind(lm, "handed"):
        text = text_of(example)
        thing = re.search(r"held the (\w+), in order|has the (\w+) in the end", text)
        assert thing
        name = thing[1] or thing[2]
        holders = re.findall(rf"At first the {name} belonged to (\w+ \w+)\.", text)
        holders += re.findall(rf"handed the {name} to (\w+ \w+)\.", text)
        assert list(example.answers) == (holders if thing[1] else holders[-1:])


def test_boxes_with_one_number_can_be_followed_back_to_it(lm: LanguageModel) -> None:
    for example in of_kind(lm, "same"):
        text = text_of(example)
        opens = dict(re.findall(r"Box (\S+) opens with (\d+)\.", text))
        for later, earlier in re.findall(r"Box (\S+) opens with the same number as box (\S+)\.", text):
            opens[later] = opens[earlier]
        if asked := re.search(r"open with the number (\d+)\?", text):
            assert set(example.answers) == {box for box, number in opens.items() if number == asked[1]}
        else:
            box = re.search(r"does box (\S+) open\?", text)
            assert box
            assert list(example.answers) == [opens[box[1]]]


def test_a_tally_asks_for_no_more_than_stand_in_its_question(lm: LanguageModel) -> None:
    for example in of_kind(lm, "tally"):
        wanted = re.search(r"Name the (\d+) most frequent", text_of(example))
        assert wanted
        assert len(example.answers) == int(wanted[1])
        assert all(text_of(example).count(answer) >= 4 for answer in example.answers)


def test_a_card_unlocks_what_its_line_says(lm: LanguageModel) -> None:
    for example in of_kind(lm, "codes"):
        asked = re.search(r"What does the card (\S+) unlock\?", text_of(example))
        assert asked
        assert f"The card {asked[1]} unlocks {example.answers[0]}." in text_of(example)


def test_sentences_are_planted_whole_and_in_order() -> None:
    sentences = [f"Planted {number}." for number in range(9)]
    for seed in range(20):
        found = plant_sentences(PASSAGES, sentences, random.Random(seed), in_order=True)
        assert re.findall(r"Planted \d\.", " ".join(found)) == sentences
        assert [re.sub(r"Planted \d\. ?", "", passage).strip() for passage in found] == PASSAGES


def test_out_of_order_the_same_sentences_are_planted() -> None:
    sentences = [f"Planted {number}." for number in range(9)]
    orders = {
        tuple(
            re.findall(r"Planted \d\.", " ".join(plant_sentences(PASSAGES, sentences, random.Random(seed))))
        )
        for seed in range(5)
    }
    assert len(orders) > 1
    assert all(sorted(order) == sentences for order in orders)
