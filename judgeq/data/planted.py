"""Made-up facts in held-out articles, with questions that have one right answer: for evaluation, never for training.

No family, template or list of values is shared with those that training plants (`judgeq.data.facts`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from judgeq.data.articles import wiki_articles
from judgeq.data.example import Example, Source
from judgeq.data.facts import Fact, distinct
from judgeq.data.lengths import count_tokens
from judgeq.data.templates import pattern
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.answer_start import propose_answer_prefix
from judgeq.prompts.prompt import SEPARATOR

Paragraphs = list[list[str]]
"""A document as sentences, paragraph by paragraph."""

SENTENCE_END = re.compile(r"(?<=[a-z\d)][a-z\d)][.!?]) +(?=[A-Z])")
"""Where a sentence ends; an abbreviation such as `St.` or `U.S.` does not end one."""


FAMILIES = Fact.from_templates("planted")
KEY = pattern("{key_first} {key_last}")


@dataclass(frozen=True)
class _PlantedSource:
    """Documents with made-up sentences at random places; every second question stands before the document."""

    name: ClassVar[str]
    stream: ClassVar[str]

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """See `Source`; `tokens` are the prompt's."""
        found = []
        for at in range(count):
            rng = random.Random(f"{self.stream}:{seed}:{at}")
            planted, question, answer, lead = self._facts(rng)
            ask = partial(
                Example.asking,
                question=question,
                kind=f"{self.name}/{'first' if at % 2 else 'last'}",
                question_first=at % 2 == 1,
                answers=[answer],
                answer_prefix=lead,
            )
            around = ask(" ".join(planted)).input_ids(lm).shape[1]
            document = _articles(lm, rng.randint(*tokens) - around, answer, rng)
            found.append(ask(_planted(document, planted, tokens[0], rng)))
        return found

    def _facts(self, rng: random.Random) -> tuple[list[str], str, str, str]:
        """Sentences to plant, the question, its answer and an answer prefix."""
        raise NotImplementedError


@dataclass(frozen=True)
class PlantedFacts(_PlantedSource):
    """One fact that is asked for, and up to `others` facts of other families.

    Attributes:
        others: most facts beside the one that counts.
        led: the answer begins with the fact's sentence up to its value, as in RULER: what a small model finds then does
            not depend on how it begins. The documents are the same.
        begun: the answer begins as `judgeq.propose_answer_prefix` proposes from the question alone.
    """

    others: int = 3
    led: bool = False
    begun: bool = False

    stream: ClassVar[str] = "facts"

    @property
    def name(self) -> str:  # type: ignore[override]
        """See `Source`."""
        return "facts-led" if self.led else "facts-begun" if self.begun else "facts"

    def _facts(self, rng: random.Random) -> tuple[list[str], str, str, str]:
        asked, *others = rng.sample(FAMILIES, 1 + rng.randint(0, self.others))
        subject, value = asked.subject(rng), asked.value(rng)
        planted = [asked.sentence.format(subject=subject, value=value)]
        for family in others:
            other = planted[0]
            while subject in other or value in other:
                other = family.sentence.format(subject=family.subject(rng), value=family.value(rng))
            planted.append(other)
        question = asked.question.format(subject=subject)
        lead = asked.lead.format(subject=subject) if self.led else ""
        return planted, question, value, propose_answer_prefix(question) if self.begun else lead


@dataclass(frozen=True)
class MultiKey(_PlantedSource):
    """Records of one form, each with a key; the question is for one of them (RULER's `niah_multikey`, own words).

    Attributes:
        records: keys in a document.
    """

    records: int = 4

    name: ClassVar[str] = "keys"
    stream: ClassVar[str] = "keys"

    def _facts(self, rng: random.Random) -> tuple[list[str], str, str, str]:
        keys = distinct(KEY, self.records, rng)
        asked = keys[0]
        values = [str(number) for number in rng.sample(range(1_000_000, 10_000_000), self.records)]
        planted = [f"The number filed for {key} is {value}." for key, value in zip(keys, values, strict=True)]
        lead = f"The number filed for {asked} in the text is"
        return planted, f"Which number is filed for {asked} in the text?", values[0], lead


PLANTED: dict[str, Source] = {
    source.name: source for source in (PlantedFacts(), PlantedFacts(begun=True), PlantedFacts(led=True), MultiKey())
}
"""Sources with right answers, by name."""


def _planted(document: Paragraphs, planted: Sequence[str], shortest: int, rng: random.Random) -> str:
    """The document with sentences planted at random places."""
    borders = [(part, place) for part, held in enumerate(document) for place in range(len(held) + 1)]
    if len(borders) < len(planted):
        raise InputError(f"{shortest:,} tokens are too few for {len(planted)} planted sentences: give more")
    places = rng.sample(borders, len(planted))
    for (part, place), sentence in sorted(zip(places, planted, strict=True), reverse=True):
        document[part].insert(place, sentence)
    return SEPARATOR.join(" ".join(held) for held in document)


def _articles(lm: LanguageModel, tokens: int, without: str, rng: random.Random) -> Paragraphs:
    """Held-out articles in random order, one a paragraph, up to the sentence that exceeds `tokens` by more than half.

    Articles in which the answer occurs are left out: it stands in the document once.
    """
    articles = [article for article in wiki_articles(held_out=True) if without.lower() not in article.text.lower()]
    between = count_tokens(lm, SEPARATOR)
    document: Paragraphs = []
    left = tokens
    for article in rng.sample(articles, len(articles)):
        document.append([])
        left -= between
        for sentence in SENTENCE_END.split(article.text):
            length = count_tokens(lm, " " + sentence)
            if length > 2 * left:
                return [held for held in document if held]
            document[-1].append(sentence)
            left -= length
    raise InputError(f"The held-out articles have {tokens - left:,} tokens: ask for shorter documents")
