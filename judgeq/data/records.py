"""Looking things up: records of one form scattered over a document, one of them asked for.

The hardest case for a small cache, since all records look alike and only the question tells which one will matter.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from judgeq.data.articles import Article, wiki_articles
from judgeq.data.example import Example
from judgeq.data.facts import (
    ADJECTIVES,
    FACTS,
    GOODS,
    NOUNS,
    TOWNS,
    Draw,
    Fact,
    code_name,
    digits,
    distinct,
    label,
    person,
)
from judgeq.data.lengths import draw_length
from judgeq.data.wiki import assemble, plant
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import SEPARATOR

KEYS: tuple[Draw, ...] = (
    code_name,
    label,
    person,
    lambda rng: f"{rng.choice(ADJECTIVES)} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
    lambda rng: f"{rng.choice(TOWNS)} {rng.randint(1, 60)}",
    lambda rng: f"{rng.choice(NOUNS)}-{rng.choice(NOUNS)}",
)
VALUES: tuple[Draw, ...] = (
    digits(3, 5),
    digits(6, 9),
    digits(6, 9),
    label,
    lambda rng: f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}",
    lambda rng: f"{rng.randint(2, 90)} {rng.choice(GOODS)}",
)
SENTENCES = (
    ("The entry for {subject} reads {value}.", "What does the entry for {subject} read?"),
    ("Note: {subject} has been given {value}.", "What has {subject} been given?"),
    ("{subject} = {value}", "What is {subject} equal to?"),
    (
        "In the register, {subject} stands next to {value}.",
        "What does {subject} stand next to in the register?",
    ),
    ("For {subject}, remember {value}.", "What is to be remembered for {subject}?"),
    ("The clerk wrote {value} beside {subject}.", "What did the clerk write beside {subject}?"),
    ("{subject}: {value}", "What is written for {subject}?"),
    ("Whoever asks for {subject} receives {value}.", "What does one receive who asks for {subject}?"),
    ("The value stored under {subject} is {value}.", "Which value is stored under {subject}?"),
    ("The seal of {subject} carries {value}.", "What does the seal of {subject} carry?"),
)
COUNTS = (2, 4, 4, 6, 8, 12, 16)
LED_SHARE, QUESTION_FIRST_SHARE, NATURAL_SHARE = 0.55, 0.4, 0.35


@dataclass(frozen=True)
class RecordsSource:
    """Records in documents of encyclopaedia articles.

    Attributes:
        held_out: draw from the articles that are never trained on.
    """

    held_out: bool = False
    name: str = "records"

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """See `Source`."""
        articles = wiki_articles(self.held_out)
        return [_build(lm, articles, tokens, random.Random(f"{seed}:records:{at}")) for at in range(count)]


def _build(
    lm: LanguageModel, articles: Sequence[Article], tokens: tuple[int, int], rng: random.Random
) -> Example:
    passages = [article.text for article in assemble(lm, articles, draw_length(tokens, rng), rng)]
    family = rng.choice(FACTS) if rng.random() < NATURAL_SHARE else _family(rng)
    subjects = distinct(family.subject, rng.choice(COUNTS), rng)
    values = [family.value(rng) for _ in subjects]
    planted = plant(passages, family, subjects, values, rng)
    at = rng.randrange(len(subjects))
    led = rng.random() < LED_SHARE and not family.sentence.startswith("The clerk")
    return Example.asking(
        SEPARATOR.join(planted),
        family.question.format(subject=subjects[at]),
        "records",
        question_first=rng.random() < QUESTION_FIRST_SHARE,
        answers=[values[at]],
        answer_prefix=family.lead.format(subject=subjects[at]) if led else "",
    )


def _family(rng: random.Random) -> Fact:
    sentence, question = rng.choice(SENTENCES)
    return Fact(sentence, question, rng.choice(KEYS), rng.choice(VALUES))
