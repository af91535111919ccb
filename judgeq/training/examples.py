"""Questions over assembled documents, in many shapes: what soft tokens are trained and measured on.

An example is text only; the model's own response comes later. No template of RULER or of Needle in a Haystack is used.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from judgeq.language_model import LanguageModel
from judgeq.training.corpus import Article


@dataclass(frozen=True)
class Example:
    """A document, a question and where the question stands.

    Attributes:
        document: assembled text.
        question: what is asked.
        question_first: the question stands before the document.
        kind: the shape it was built with.
        answer: the planted fact that answers it; empty where there is none.
    """

    document: str
    question: str
    question_first: bool
    kind: str
    answer: str = ""


@dataclass(frozen=True)
class Fact:
    """A family of made-up facts: a sentence with a subject and a value, and the question for it."""

    sentence: str
    question: str
    subjects: tuple[str, ...]
    value: Callable[[random.Random], str]


def _pick(*values: str) -> Callable[[random.Random], str]:
    return lambda rng: rng.choice(values)


def _number(low: int, high: int) -> Callable[[random.Random], str]:
    return lambda rng: str(rng.randint(low, high))


PEOPLE = (
    *("Amelia Brandt", "Tomas Okafor", "Ingrid Solheim", "Ravi Menon", "Clara Whitfield", "Joaquim Reis"),
    *(
        "Hana Kobayashi",
        "Peter Lindqvist",
        "Fatima Rahal",
        "George Tennant",
        "Lucia Moretti",
        "Samuel Adeyemi",
    ),
)
ROOMS = (
    "archive",
    "boiler room",
    "music room",
    "greenhouse",
    "print shop",
    "observatory",
    "east cellar",
    "chapel",
)
PLACES = (
    "blue teapot",
    "piano stool",
    "second drawer",
    "umbrella stand",
    "tool shed",
    "flour jar",
    "coal bucket",
)
TOWNS = ("Ashford", "Bergen", "Coimbra", "Dijon", "Elbeuf", "Fiesole", "Gdansk", "Haarlem", "Izmir", "Jena")
SHIPS = (
    "Marigold",
    "Northern Star",
    "Petrel",
    "Sea Thrift",
    "Albatross",
    "Windrush",
    "Grey Heron",
    "Halcyon",
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
COLOURS = ("crimson", "turquoise", "amber", "violet", "olive green", "navy blue", "ivory", "copper")

FACTS = (
    Fact(
        "{subject} rents locker {value}.",
        "Which locker does {subject} rent?",
        PEOPLE,
        _number(11, 989),
    ),
    Fact(
        "The spare key of the {subject} lies in the {value}.",
        "Where is the spare key of the {subject}?",
        ROOMS,
        _pick(*PLACES),
    ),
    Fact(
        "{subject} grew up in {value}.",
        "In which town did {subject} grow up?",
        PEOPLE,
        _pick(*TOWNS),
    ),
    Fact(
        "The {subject} carried {value} crates of oranges.",
        "How many crates of oranges did the {subject} carry?",
        SHIPS,
        _number(20, 900),
    ),
    Fact(
        "The door of the {subject} opens with the code {value}.",
        "What code opens the door of the {subject}?",
        ROOMS,
        _number(1000, 9999),
    ),
    Fact(
        "{subject} takes cello lessons every {value}.",
        "On which day does {subject} take cello lessons?",
        PEOPLE,
        _pick(*DAYS),
    ),
    Fact(
        "The hull of the {subject} was painted {value}.",
        "What colour was the hull of the {subject} painted?",
        SHIPS,
        _pick(*COLOURS),
    ),
    Fact(
        "You reach {subject} by telephone under extension {value}.",
        "Under which extension is {subject} reached?",
        PEOPLE,
        _number(100, 999),
    ),
)

ABOUT_ARTICLE = (
    "What does the text say about {title}?",
    "Explain what {title} is, using only the text.",
    "In one sentence, what is {title}?",
    "Give two facts about {title} from the text.",
    "Repeat the passage about {title} word for word.",
    "Who or what is {title}, and why does it matter?",
    "Write a short note about {title} for a friend.",
)
ABOUT_ALL = (
    "Summarize the text in three sentences.",
    "List the subjects that the text covers.",
    "What is the last subject of the text, and what is said about it?",
    "Which subject does the text begin with? Describe it.",
    "Name one date or number from the text and say what it stands for.",
    "Continue the text with one more paragraph of the same kind.",
)
BY_DESCRIPTION = (
    'Which subject in the text could be described as "{description}"?',
    "The text covers something known as: {description}. What is it called and what else is said about it?",
)
HEADINGS = ("{text}", "{title}\n{text}", "## {title}\n\n{text}", "{title}: {text}", "- {title}. {text}")


def build_examples(
    lm: LanguageModel,
    articles: Sequence[Article],
    count: int,
    *,
    tokens: tuple[int, int],
    seed: int,
) -> list[Example]:
    """Assemble `count` examples; the same arguments always give the same examples.

    Args:
        articles: texts to draw from.
        tokens: shortest and longest document, in tokens of `lm`.
        seed: of every choice.
    """
    rng = random.Random(seed)
    return [_build(lm, articles, tokens, rng) for _ in range(count)]


def _build(
    lm: LanguageModel, articles: Sequence[Article], tokens: tuple[int, int], rng: random.Random
) -> Example:
    chosen = _draw(lm, articles, rng.randint(*tokens), rng)
    heading = rng.choice(HEADINGS)
    passages = [heading.format(title=article.title, text=article.text) for article in chosen]
    subject = rng.choice(chosen)
    kind = rng.choices(("article", "description", "all", "facts"), weights=(4, 1, 2, 5))[0]
    answer = ""
    if kind == "description" and not subject.description:
        kind = "article"
    if kind == "article":
        question = rng.choice(ABOUT_ARTICLE).format(title=subject.title)
    elif kind == "description":
        question = rng.choice(BY_DESCRIPTION).format(description=subject.description)
    elif kind == "all":
        question = rng.choice(ABOUT_ALL)
    else:
        passages, question, answer = _plant(passages, rng)
    return Example("\n\n".join(passages), question, rng.random() < 0.3, kind, answer)


def _draw(lm: LanguageModel, articles: Sequence[Article], tokens: int, rng: random.Random) -> list[Article]:
    """Distinct articles of about `tokens` tokens together, the last one cut at a sentence to fit."""
    chosen: list[Article] = []
    left = tokens
    while left > 40:
        article = rng.choice(articles)
        if article in chosen:
            continue
        length = len(lm.tokenizer(article.text)["input_ids"])
        if length > left:
            sentences = re.split(r"(?<=[.!?])\s+", article.text)
            share = max(1, round(len(sentences) * left / length))
            article = Article(article.title, " ".join(sentences[:share]), article.description)
        chosen.append(article)
        left -= min(length, left)
    return chosen


def _plant(passages: list[str], rng: random.Random) -> tuple[list[str], str, str]:
    """Hide one to eight facts of one family at random sentence borders and ask for one of them."""
    fact = rng.choice(FACTS)
    subjects = rng.sample(fact.subjects, rng.choice((1, 1, 2, 4, 8)))
    values = [fact.value(rng) for _ in subjects]
    passages = list(passages)
    for subject, value in zip(subjects, values, strict=True):
        at = rng.randrange(len(passages))
        sentences = re.split(r"(?<=[.!?])\s+", passages[at])
        sentences.insert(rng.randint(0, len(sentences)), fact.sentence.format(subject=subject, value=value))
        passages[at] = " ".join(sentences)
    asked = rng.randrange(len(subjects))
    return passages, fact.question.format(subject=subjects[asked]), values[asked]
