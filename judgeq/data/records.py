"""Looking things up: records of one form scattered over a document, one of them asked for.

The hardest case for a small cache, since all records look alike and only the question tells which one will matter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from judgeq.data.articles import wiki_articles
from judgeq.data.example import Example, GeneratedSource
from judgeq.data.facts import FACTS, Fact, distinct
from judgeq.data.lengths import draw_length
from judgeq.data.templates import TEMPLATES, pattern
from judgeq.data.wiki import assemble, plant
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import SEPARATOR

RECORDS = TEMPLATES["records"]
COUNTS, EXACT_COUNTS = (2, 4, 4, 6, 8, 12, 16), (1, 2, 2, 4, 4, 8)
LED_SHARE, QUESTION_FIRST_SHARE, NATURAL_SHARE = 0.55, 0.4, 0.35


@dataclass(frozen=True)
class RecordsSource(GeneratedSource):
    """Records in documents of encyclopaedia articles."""

    held_out: bool = False

    name: ClassVar[str] = "records"
    stream: ClassVar[str] = "{seed}:records:{at}"
    counts: ClassVar[tuple[int, ...]] = COUNTS

    def family(self, rng: random.Random) -> Fact:
        """What all records of one example are about."""
        return rng.choice(FACTS) if rng.random() < NATURAL_SHARE else _family(rng, RECORDS["values"])

    def build(self, lm: LanguageModel, tokens: tuple[int, int], rng: random.Random) -> Example:
        articles = assemble(lm, wiki_articles(self.held_out), draw_length(tokens, rng), rng)
        family = self.family(rng)
        subjects = distinct(family.subject, rng.choice(self.counts), rng)
        values = [family.value(rng) for _ in subjects]
        planted = plant([article.text for article in articles], family, subjects, values, rng)
        at = rng.randrange(len(subjects))
        led = rng.random() < LED_SHARE and not family.sentence.startswith("The clerk")
        return Example.asking(
            SEPARATOR.join(planted),
            family.question.format(subject=subjects[at]),
            self.name,
            question_first=rng.random() < QUESTION_FIRST_SHARE,
            answers=[values[at]],
            answer_prefix=family.lead.format(subject=subjects[at]) if led else "",
        )


@dataclass(frozen=True)
class ExactSource(RecordsSource):
    """Records whose values are long and have to be repeated to the last character: ids, addresses, phrases."""

    name: ClassVar[str] = "exact"
    stream: ClassVar[str] = "{seed}:exact:{at}"
    counts: ClassVar[tuple[int, ...]] = EXACT_COUNTS

    def family(self, rng: random.Random) -> Fact:
        return _family(rng, TEMPLATES["exact"]["values"])


def _family(rng: random.Random, values: Sequence[str]) -> Fact:
    sentence, question = rng.choice(RECORDS["sentences"])
    return Fact(sentence, question, pattern(rng.choice(RECORDS["keys"])), pattern(rng.choice(values)))
