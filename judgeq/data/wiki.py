"""Questions over documents assembled from encyclopaedia articles, in many shapes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from judgeq.data.articles import Article, wiki_articles
from judgeq.data.example import Example, GeneratedSource, ask_at_random, draw_shape
from judgeq.data.facts import FACTS, TABLE_FORMS, Fact, Table, distinct
from judgeq.data.lengths import draw_length
from judgeq.data.templates import TEMPLATES
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message

TEXTS = TEMPLATES["wiki"]
FACT_COUNTS = (1, 1, 2, 4, 4, 8, 8, 16)


@dataclass(frozen=True)
class WikiSource(GeneratedSource):
    """Documents of several short articles, and one of many kinds of questions about them."""

    held_out: bool = False

    name: ClassVar[str] = "wiki"

    def build(self, lm: LanguageModel, tokens: tuple[int, int], rng: random.Random) -> Example:
        chosen = assemble(lm, wiki_articles(self.held_out), draw_length(tokens, rng), rng)
        heading = rng.choice(TEXTS["headings"])
        passages = [heading.format(title=article.title, text=article.text) for article in chosen]
        return draw_shape(SHAPES, rng, chosen, passages)


def assemble(lm: LanguageModel, articles: Sequence[Article], tokens: int, rng: random.Random) -> list[Article]:
    """Distinct articles of about `tokens` tokens together, the last one cut at a sentence to fit."""
    chosen: list[Article] = []
    left = tokens
    while left > 40 and len(chosen) < len(articles):
        article = rng.choice(articles)
        if article in chosen:
            continue
        length = len(lm.tokenizer(article.text)["input_ids"])
        if length > left:
            kept = _sentences(article.text)
            share = max(1, round(len(kept) * left / length))
            article = Article(article.title, " ".join(kept[:share]), article.description)
        chosen.append(article)
        left -= min(length, left)
    return chosen


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text)


def _article(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    question = rng.choice(TEXTS["article"]).format(title=rng.choice(chosen).title)
    return ask_at_random(passages, question, "article", rng)


def _description(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    described = [article for article in chosen if article.description]
    if not described:
        return _article(chosen, passages, rng)
    question = rng.choice(TEXTS["description"]).format(description=rng.choice(described).description)
    return ask_at_random(passages, question, "description", rng)


def _all(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    return ask_at_random(passages, rng.choice(TEXTS["all"]), "all", rng)


def _several(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    first, second = rng.choice(chosen), rng.choice(chosen)
    question = rng.choice(TEXTS["several"]).format(first=first.title, second=second.title)
    return ask_at_random(passages, question, "several", rng)


def _continuation(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    """The answer has begun already: it repeats a passage whose beginning stands there."""
    article = rng.choice(chosen)
    words = article.text.split(" ")
    prefix = " ".join(words[: rng.randint(3, max(3, len(words) // 2))])
    question = f"Repeat the passage about {article.title} word for word."
    return ask_at_random(passages, question, "continuation", rng, answer_prefix=prefix)


def _facts(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    """One to sixteen facts of one family at random sentence borders; a question for one, for two or for all."""
    fact = rng.choice(FACTS)
    subjects = distinct(fact.subject, rng.choice(FACT_COUNTS), rng)
    values = [fact.value(rng) for _ in subjects]
    planted = plant(passages, fact, subjects, values, rng)
    asked = rng.sample(range(len(subjects)), min(len(subjects), 2 if rng.random() < 0.15 else 1))
    if len(subjects) > 1 and rng.random() < 0.1:
        return ask_at_random(planted, fact.everything, "facts", rng, answers=values)
    question = " ".join(fact.question.format(subject=subjects[at]) for at in asked)
    prefix = ""
    if len(asked) == 1 and rng.random() < 0.4:
        prefix = fact.lead.format(subject=subjects[asked[0]])
    return ask_at_random(planted, question, "facts", rng, answers=[values[at] for at in asked], answer_prefix=prefix)


def plant(
    passages: Sequence[str], fact: Fact, subjects: Sequence[str], values: Sequence[str], rng: random.Random
) -> list[str]:
    """The passages with one sentence for each subject and value at random sentence borders."""
    sentences = [
        fact.sentence.format(subject=subject, value=value) for subject, value in zip(subjects, values, strict=True)
    ]
    return plant_sentences(passages, sentences, rng)


def plant_sentences(
    passages: Sequence[str], sentences: Sequence[str], rng: random.Random, *, in_order: bool = False
) -> list[str]:
    """The passages with each of the sentences at a random sentence border.

    Args:
        in_order: they follow each other in the text as they are given.
    """
    if not in_order:
        planted = list(passages)
        for sentence in sentences:
            at = rng.randrange(len(planted))
            around = _sentences(planted[at])
            around.insert(rng.randint(0, len(around)), sentence)
            planted[at] = " ".join(around)
        return planted
    split = [_sentences(passage) for passage in passages]
    places = [rng.randrange(len(split)) for _ in sentences]
    borders = sorted((place, rng.randint(0, len(split[place]))) for place in places)
    # from the end, so that a border stays where it was drawn
    for (place, border), sentence in reversed(list(zip(borders, sentences, strict=True))):
        split[place].insert(border, sentence)
    return [" ".join(each) for each in split]


def _table(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    """A made-up table in place of a part of the articles; a question for one cell or one row."""
    table = Table.draw(rng.randint(4, 4 + 3 * len(chosen)), rng)
    kept = list(passages[: max(1, (len(passages) + 1) // 2)])
    kept.insert(rng.randint(0, len(kept)), table.text(rng.choice(TABLE_FORMS)))
    row = rng.choice(table.rows)
    column = rng.randrange(1, len(row))
    key, wanted = table.header[0], table.header[column]
    if rng.random() < 0.2:
        return ask_at_random(kept, f"What is listed for the {key} {row[0]}?", "table", rng, answers=row[1:])
    question = f"According to the list, what is the {wanted} for the {key} {row[0]}?"
    prefix = f"The {wanted} for the {key} {row[0]} is" if rng.random() < 0.3 else ""
    return ask_at_random(kept, question, "table", rng, answers=[row[column]], answer_prefix=prefix)


def _chat(chosen: Sequence[Article], passages: Sequence[str], rng: random.Random) -> Example:
    """A conversation: the document, an answered question or two, then the question that counts."""
    opening = ask_at_random(passages, rng.choice(TEXTS["article"]).format(title=chosen[0].title), "chat", rng)
    messages = [*opening.messages, Message("assistant", _sentences(chosen[0].text)[0])]
    if rng.random() < 0.4:
        other = rng.choice(chosen)
        messages.append(Message("user", f"And what about {other.title}?"))
        messages.append(Message("assistant", _sentences(other.text)[0]))
    last = _article(chosen, (), rng) if rng.random() < 0.7 else _all(chosen, (), rng)
    messages.append(Message("user", last.messages[0].content.strip()))
    return Example(tuple(messages), "chat")


SHAPES: dict[Callable[..., Example | None], float] = {
    _article: 4,
    _facts: 6,
    _table: 2,
    _all: 2,
    _several: 1,
    _description: 1,
    _continuation: 1,
    _chat: 2,
}
"""How often each shape is drawn."""
