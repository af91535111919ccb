"""Questions over prose of other kinds: Python's own reference manual, and any folder of texts.

Documents are passages as they stand in the texts. What is asked is of general kinds, so that it fits every text.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from judgeq.data.example import Example, GeneratedSource, Page, draw_shape
from judgeq.data.passages import GAP, Text, draw_document, folder_texts, manual_texts
from judgeq.data.templates import TEMPLATES
from judgeq.models.language_model import LanguageModel

TEXTS = TEMPLATES["manuals"]
SENTENCE = re.compile(r"[A-Z][^|<>{}=]{30,300}[.!?]")
WORD = re.compile(r"[A-Za-z][A-Za-z_-]{4,}")
RULE = re.compile(r"^ +(\w+) +::= (\S.*)\n(?! +(?!\w+ +::=)\S)", re.MULTILINE)
"""A rule of the manual's grammar that takes one line."""
PASSAGE_SHARES = (0.1, 0.6)
"""How much of a document one passage of the manual fills."""
MANY = 3
"""A word that a text says so often is one of its subjects, unless it is one of these."""
COMMON = frozenset(
    WORD.findall(
        "about above after again against because before being below between cannot could during either every first "
        "following given however might other otherwise should since still their there therefore these thing things "
        "those through under unless until using value values where whether which while whose within without would"
    )
)

REPEAT = "Repeat word for word the sentence that begins with “{start}”."


@dataclass(frozen=True)
class TitledPage(Page):
    """A document, and the subjects that it shows from their beginning."""

    titles: tuple[str, ...]


@dataclass(frozen=True)
class ManualSource(GeneratedSource):
    """Passages about several topics of the Python language reference; never trained on.

    Which topics there are depends on the version of the interpreter.
    """

    name: str = "manuals"

    def build(self, lm: LanguageModel, tokens: tuple[int, int], rng: random.Random) -> Example:
        page = TitledPage(self.name, *draw_document(lm, manual_texts(), tokens, rng, PASSAGE_SHARES))
        return draw_shape(SHAPES, rng, page)


@dataclass(frozen=True)
class FolderSource(GeneratedSource):
    """Runs of paragraphs from a text file, or from those in a folder and the folders in it.

    A document continues in another file only where the first one ends.
    """

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @cached_property
    def texts(self) -> tuple[Text, ...]:
        """What the files hold."""
        return folder_texts(self.path)

    def build(self, lm: LanguageModel, tokens: tuple[int, int], rng: random.Random) -> Example:
        page = TitledPage("texts", *draw_document(lm, self.texts, tokens, rng, (1, 1)))
        return draw_shape(SHAPES, rng, page)


def _all(page: TitledPage, rng: random.Random) -> Example:
    return page.ask(rng.choice(TEXTS["all"]), "all", rng)


def _titled(page: TitledPage, rng: random.Random) -> Example | None:
    if not page.titles:
        return None
    return page.ask(rng.choice(TEXTS["titled"]).format(title=rng.choice(page.titles)), "title", rng)


def _term(page: TitledPage, rng: random.Random) -> Example | None:
    """About a word that the text says often, or about a name in it."""
    counts = Counter(WORD.findall(page.text))
    often = [word for word, count in counts.items() if count >= MANY and word.lower() not in COMMON]
    names = [word for word in counts if word[0].isupper() and word.lower() not in {*counts, *COMMON}]
    found = [words for words in (often, names) if words]
    if not found:
        return None
    return page.ask(rng.choice(TEXTS["terms"]).format(term=rng.choice(rng.choice(found))), "term", rng)


def _sentences(page: Page) -> list[list[str]]:
    """Of every paragraph, without its line breaks."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in GAP.split(page.text))
    return [re.split(r"(?<=[.!?]) (?=[A-Z])", paragraph) for paragraph in paragraphs]


def _next(page: TitledPage, rng: random.Random) -> Example | None:
    pairs = [pair for paragraph in _sentences(page) for pair in pairwise(paragraph)]
    counts = Counter(first for first, _ in pairs)
    pairs = [pair for pair in pairs if all(map(SENTENCE.fullmatch, pair)) and counts[pair[0]] == 1]
    if not pairs:
        return None
    sentence, following = rng.choice(pairs)
    return page.ask(rng.choice(TEXTS["next"]).format(sentence=sentence), "next", rng, [following])


def _repeat(page: TitledPage, rng: random.Random) -> Example | None:
    sentences = [sentence for paragraph in _sentences(page) for sentence in paragraph]
    starts = Counter(" ".join(sentence.split()[:4]) for sentence in sentences)
    found = {" ".join(each.split()[:4]): each for each in sentences if SENTENCE.fullmatch(each)}
    found = {start: sentence for start, sentence in found.items() if starts[start] == 1}
    if not found:
        return None
    start = rng.choice(list(found))
    return page.ask(REPEAT.format(start=start), "repeat", rng, [found[start]])


def _syntax(page: TitledPage, rng: random.Random) -> Example | None:
    rules = dict(RULE.findall(page.text))
    if not rules:
        return None
    rule = rng.choice(list(rules))
    return page.ask(rng.choice(TEXTS["syntax"]).format(rule=rule), "syntax", rng, [rules[rule].strip()])


SHAPES: dict[Callable[[TitledPage, random.Random], Example | None], float] = {
    _titled: 3,
    _all: 3,
    _term: 3,
    _next: 1,
    _repeat: 1,
    _syntax: 1,
}
"""How often each shape is tried."""
