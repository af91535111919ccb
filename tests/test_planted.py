"""Planted facts: in the document once, found by one question, unknown to training."""

from __future__ import annotations

import dataclasses
import random
import re
from pathlib import Path

import pytest

from judgeq.data import planted
from judgeq.data.articles import Article
from judgeq.data.example import Example, Source
from judgeq.data.facts import COLUMNS, FACTS
from judgeq.data.planted import FAMILIES, PLANTED, MultiKey, PlantedFacts
from judgeq.data.templates import TEMPLATES
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.answer_start import propose_answer_prefix
from judgeq.prompts.prompt import SEPARATOR

ARTICLES = tuple(
    Article(f"Town {number}", f"The town has {number} towers. Its mayor sings of St. Ives. Many hear it.", "")
    for number in range(80)
)
PATTERNS = [re.sub(r"\\{\w+\\}", ".+", re.escape(family.sentence)) for family in FAMILIES]


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "wiki_articles", lambda held_out: ARTICLES if held_out else ())


@pytest.fixture(params=sorted(PLANTED))
def source(request: pytest.FixtureRequest) -> Source:
    return PLANTED[request.param]


def drawn(lm: LanguageModel, source: Source, count: int = 40, seed: int = 0) -> list[Example]:
    return source.examples(lm, count, tokens=(900, 900), seed=seed)


def parts(example: Example) -> tuple[str, str]:
    """Document and question."""
    text = example.messages[0].content
    first, last = text.split(SEPARATOR, 1), text.rsplit(SEPARATOR, 1)
    return (first[1], first[0]) if example.kind.endswith("/first") else (last[0], last[1])


def test_the_answer_stands_once_and_not_in_the_question(lm: LanguageModel, source: Source) -> None:
    for example in drawn(lm, source):
        document, question = parts(example)
        (answer,) = example.answers
        assert document.lower().count(answer.lower()) == 1
        assert answer.lower() not in question.lower() + example.answer_prefix.lower()
        assert question.endswith("?")


def test_every_second_question_stands_first(lm: LanguageModel, source: Source) -> None:
    kinds = [example.kind for example in drawn(lm, source, 4)]
    assert kinds == [f"{source.name}/{place}" for place in ("last", "first", "last", "first")]


def test_the_same_seed_gives_the_same_first_examples(lm: LanguageModel, source: Source) -> None:
    examples = drawn(lm, source, 12)
    assert drawn(lm, source, 5) == examples[:5]
    assert drawn(lm, source, 12, seed=1) != examples
    assert len({example.messages for example in examples}) == 12


def test_prompts_have_the_asked_length(lm: LanguageModel, source: Source) -> None:
    for example in drawn(lm, source):
        assert example.input_ids(lm).shape[1] == pytest.approx(900, abs=45)
    examples = source.examples(lm, 40, tokens=(800, 2000), seed=0)
    lengths = [example.input_ids(lm).shape[1] for example in examples]
    assert min(lengths) < 1100 < 1700 < max(lengths)


def test_facts_stand_between_sentences_at_all_places(lm: LanguageModel) -> None:
    places = []
    for example in drawn(lm, PlantedFacts(), 100):
        document, _ = parts(example)
        sentences = re.split(r"(?<=\.) (?!Ives)|\n\n", document)
        sentence = next(each for each in sentences if example.answers[0] in each)
        assert any(re.fullmatch(pattern, sentence) for pattern in PATTERNS)
        places.append(document.index(sentence) / len(document))
    assert min(places) < 0.1
    assert max(places) > 0.9
    assert sum(places) / len(places) == pytest.approx(0.5, abs=0.1)


def test_one_fact_to_four_of_different_families(lm: LanguageModel) -> None:
    counts = set()
    for example in drawn(lm, PlantedFacts(), 60):
        document, _ = parts(example)
        found = [len(re.findall(pattern.replace(".+", "[^.]+"), document)) for pattern in PATTERNS]
        assert max(found) == 1
        counts.add(sum(found))
    assert counts == {1, 2, 3, 4}


def test_a_led_answer_continues_the_facts_own_sentence(lm: LanguageModel) -> None:
    for plain, led in zip(drawn(lm, PlantedFacts()), drawn(lm, PlantedFacts(led=True)), strict=True):
        assert plain.answers == led.answers
        assert not plain.answer_prefix
        assert f"{led.answer_prefix} {led.answers[0]}" in parts(led)[0]
    for begun in drawn(lm, PLANTED["facts-begun"]):
        assert begun.answer_prefix == propose_answer_prefix(parts(begun)[1])
        assert not any(answer in begun.answer_prefix for answer in begun.answers)


def test_records_have_one_form_and_different_keys_and_values(lm: LanguageModel) -> None:
    for example in drawn(lm, MultiKey(records=6)):
        document, question = parts(example)
        records = dict(re.findall(r"The number filed for (\w+ \w+) is (\d{7})\.", document))
        assert len(records) == len(set(records.values())) == 6
        (asked,) = re.findall(r"filed for (\w+ \w+) in", question)
        assert records[asked] == example.answers[0]
        assert asked in example.answer_prefix


def test_articles_with_the_answer_are_left_out(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    value = drawn(lm, PlantedFacts(), 1)[0].answers[0]
    more = f"This tells {value.upper()} to all."
    telling = tuple(Article(article.title, f"{article.text} {more}", "") for article in ARTICLES)
    monkeypatch.setattr(planted, "wiki_articles", lambda held_out: (*telling, *ARTICLES))
    example = drawn(lm, PlantedFacts(), 1)[0]
    assert example.answers == (value,)
    assert parts(example)[0].lower().count(value.lower()) == 1


def test_no_other_fact_holds_the_answer(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    few = [dataclasses.replace(family, value=lambda rng: rng.choice("qz") * 4) for family in FAMILIES[:2]]
    monkeypatch.setattr(planted, "FAMILIES", tuple(few))
    for example in drawn(lm, PlantedFacts(others=1)):
        assert parts(example)[0].count(example.answers[0]) == 1


def test_lengths_that_cannot_be_had_are_refused(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="too few"):
        PlantedFacts().examples(lm, 8, tokens=(20, 20), seed=0)
    with pytest.raises(InputError, match="shorter documents"):
        MultiKey().examples(lm, 1, tokens=(100_000, 100_000), seed=0)


def test_nothing_is_shared_with_what_training_plants() -> None:
    def words(template: str) -> set[str]:
        return set(re.findall(r"\w{4,}", template.replace("{subject}", "").replace("{value}", "").lower()))

    ours = [*((family.sentence, family.question) for family in FAMILIES), ("The number filed for is", "")]
    records = {text for pair in TEMPLATES["records"]["sentences"] for text in pair}
    assert not records & {text for pair in ours for text in pair}
    for sentence, question in ours:
        for fact in FACTS:
            shared = words(sentence) & words(fact.sentence)
            assert len(shared) <= 1, (sentence, fact.sentence, shared)
            assert question != fact.question
    rng = random.Random(0)
    trained = {
        draw(rng).lower()
        for draw in (*COLUMNS.values(), *(part for fact in FACTS for part in (fact.subject, fact.value)))
        for _ in range(400)
    }
    texts = [family.subject for family in FAMILIES] + [family.value for family in FAMILIES]
    planted_texts = {draw(rng).lower() for draw in texts for _ in range(200)}
    keys = {planted.KEY(rng) for _ in range(400)}
    assert not {text for text in (planted_texts | keys) & trained if not text.isdigit()}


def test_no_template_of_a_benchmark_is_used() -> None:
    """RULER's and Needle-in-a-Haystack's wording, from their task definitions."""
    folder = Path(planted.__file__).parent
    names = ("templates.toml", "wiki.py", "records.py", "chains.py", "planted.py")
    words = "\n".join((folder / name).read_text(encoding="utf-8") for name in names).lower()
    phrases = "special magic|magic number|san francisco|grass is green|assigned the value|numbered list of words|var "
    assert not [phrase for phrase in phrases.split("|") if phrase in words]
