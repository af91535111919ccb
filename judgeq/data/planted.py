"""Made-up facts in held-out articles, with questions that have one right answer: for evaluation, never for training.

No family, template or list of values is shared with those that training plants (`judgeq.data.facts`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from judgeq.data.articles import wiki_articles
from judgeq.data.example import Example, Source
from judgeq.data.facts import Draw, Fact
from judgeq.data.lengths import count_tokens
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import SEPARATOR

Paragraphs = list[list[str]]
"""A document as sentences, paragraph by paragraph."""

SENTENCE_END = re.compile(r"(?<=[a-z\d)][a-z\d)][.!?]) +(?=[A-Z])")
"""Where a sentence ends; an abbreviation such as `St.` or `U.S.` does not end one."""


def _one_of(values: str) -> Draw:
    """One of several texts, separated by commas."""
    listed = values.split(",")
    return lambda rng: rng.choice(listed)


def _full_name(rng: random.Random) -> str:
    first = (
        "Agnes,Benoit,Cecily,Dagmar,Ephraim,Flora,Gideon,Harriet,Ignatius,Judith,Konrad,Lavinia,Magnus,Odile"
    )
    last = "Abernathy,Bellweather,Cardew,Drummond,Estergaard,Fairweather,Grimaldi,Hollis,Ketteridge,Lockhart,Marchetti"
    return f"{_one_of(first)(rng)} {_one_of(last)(rng)}"


def _clock(rng: random.Random) -> str:
    return f"{rng.randint(10, 23)}:{rng.randint(1, 59):02d}"


_village = _one_of(
    "Upper Tarrow,Quenby,Little Marsden,Ostrava Mill,Hexley,Brackwater,Nunstead,Saltcote,Wyngate,Fenmoor"
)

FAMILIES = (
    Fact(
        "{subject} keeps bees on the roof of the {value}.",
        "On the roof of which building does {subject} keep bees?",
        _full_name,
        _one_of(
            "public library,opera house,town brewery,post office,art school,courthouse,swimming hall,grain exchange"
        ),
    ),
    Fact(
        "At the auction in spring, the {subject} fetched {value} euros.",
        "How many euros did the {subject} fetch at the auction?",
        _one_of(
            "silver samovar,walnut globe,brass sextant,porcelain heron,ebony chess set,tin rocket,jade inkwell"
        ),
        lambda rng: str(rng.randint(1_101, 98_989)),
    ),
    Fact(
        "Since childhood {subject} has been allergic to {value}.",
        "What is {subject} allergic to?",
        _full_name,
        _one_of(
            "hazelnuts,mustard,cinnamon,shellfish,strawberries,sesame,celery,buckwheat,peaches,lupin flour"
        ),
    ),
    Fact(
        "The oldest bell in {subject} was cast in the year {value}.",
        "In which year was the oldest bell in {subject} cast?",
        _village,
        lambda rng: str(rng.randint(1311, 1899)),
    ),
    Fact(
        "{subject} plays the {value} in the village band.",
        "Which instrument does {subject} play in the village band?",
        _full_name,
        _one_of(
            "bassoon,tuba,clarinet,glockenspiel,trombone,accordion,piccolo,euphonium,saxophone,flugelhorn"
        ),
    ),
    Fact(
        "The last bus to {subject} leaves at {value} on weekdays.",
        "At what time does the last bus to {subject} leave on weekdays?",
        _village,
        _clock,
    ),
    Fact(
        "The dog of {subject} answers to the name of {value}.",
        "What is the name of the dog of {subject}?",
        _full_name,
        _one_of("Biscuit,Domino,Figaro,Pickle,Truffle,Zorro,Muffin,Rufus,Sputnik,Waffles,Dumpling,Nutmeg"),
    ),
    Fact(
        "For the summit register of Mount {subject}, hikers write with a pen tied to a {value}.",
        "To what is the pen at the summit register of Mount {subject} tied?",
        _one_of("Orvella,Tisumi,Kaldbach,Penharrow,Dravik,Solanter,Greywether,Ilmaro"),
        _one_of(
            "horseshoe,wine cork,ski pole,teaspoon,bicycle chain,fishing float,wooden clog,climbing bolt"
        ),
    ),
)

_key_first = _one_of(
    "abrupt,barren,clever,drowsy,elated,fuzzy,gaudy,humble,itchy,jumpy,knotty,lofty,mighty,nimble,ornate,pious,quaint,"
    "rustic,stormy,thrifty,unruly,velvety,wistful,zesty"
)
_key_last = _one_of(
    "badger,cobbler,dolphin,easel,ferret,glacier,hamlet,iguana,juggler,kayak,lobster,marmot,nomad,otter,pigeon,quiver,"
    "raven,sculptor,turnip,umpire,violin,walrus,yodeler,zither"
)


@dataclass(frozen=True)
class PlantedFacts:
    """One fact that is asked for, and up to `others` facts of other families.

    Attributes:
        others: most facts beside the one that counts.
        led: the answer begins with the fact's sentence up to its value, as in RULER: what a small model finds then does
            not depend on how it begins. The documents are the same.
    """

    others: int = 3
    led: bool = False

    @property
    def name(self) -> str:
        """See `Source`."""
        return "facts-led" if self.led else "facts"

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """See `Source`; `tokens` are the prompt's. Every second question stands before the document."""
        return [self._example(lm, at, tokens, random.Random(f"facts:{seed}:{at}")) for at in range(count)]

    def _example(self, lm: LanguageModel, at: int, tokens: tuple[int, int], rng: random.Random) -> Example:
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
        return _build(
            lm, planted, question, value, at=at, name=self.name, tokens=tokens, rng=rng, answer_prefix=lead
        )


@dataclass(frozen=True)
class MultiKey:
    """Records of one form, each with a key; the question is for one of them (RULER's `niah_multikey`, own words).

    Attributes:
        records: keys in a document.
    """

    records: int = 4
    name: str = "keys"

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """See `Source`; `tokens` are the prompt's. Every second question stands before the document."""
        return [
            self._example(lm, at, tokens, random.Random(f"{self.name}:{seed}:{at}")) for at in range(count)
        ]

    def _example(self, lm: LanguageModel, at: int, tokens: tuple[int, int], rng: random.Random) -> Example:
        keys: dict[str, None] = {}
        while len(keys) < self.records:
            keys.setdefault(f"{_key_first(rng)} {_key_last(rng)}")
        asked = next(iter(keys))
        values = [str(number) for number in rng.sample(range(1_000_000, 10_000_000), self.records)]
        planted = [f"The number filed for {key} is {value}." for key, value in zip(keys, values, strict=True)]
        question = f"Which number is filed for {asked} in the text?"
        lead = f"The number filed for {asked} in the text is"
        return _build(
            lm,
            planted,
            question,
            values[0],
            at=at,
            name=self.name,
            tokens=tokens,
            rng=rng,
            answer_prefix=lead,
        )


PLANTED: dict[str, Source] = {
    source.name: source for source in (PlantedFacts(), PlantedFacts(led=True), MultiKey())
}
"""Sources with right answers, by name."""


def _build(
    lm: LanguageModel,
    planted: Sequence[str],
    question: str,
    answer: str,
    *,
    at: int,
    name: str,
    tokens: tuple[int, int],
    rng: random.Random,
    answer_prefix: str = "",
) -> Example:
    """Plant sentences at random places of held-out articles that fill the prompt up to its length."""

    def asking(document: str) -> Example:
        first = at % 2 == 1
        return Example.asking(
            document,
            question,
            f"{name}/{'first' if first else 'last'}",
            question_first=first,
            answers=[answer],
            answer_prefix=answer_prefix,
        )

    around = asking(" ".join(planted)).input_ids(lm).shape[1]
    document = _articles(lm, rng.randint(*tokens) - around, answer, rng)
    borders = [(part, place) for part, held in enumerate(document) for place in range(len(held) + 1)]
    if len(borders) < len(planted):
        raise InputError(f"{tokens[0]:,} tokens are too few for {len(planted)} planted sentences: give more")
    places = rng.sample(borders, len(planted))
    for (part, place), sentence in sorted(zip(places, planted, strict=True), reverse=True):
        document[part].insert(place, sentence)
    return asking(SEPARATOR.join(" ".join(held) for held in document))


def _articles(lm: LanguageModel, tokens: int, without: str, rng: random.Random) -> Paragraphs:
    """Held-out articles in random order, one a paragraph, up to the sentence that exceeds `tokens` by more than half.

    Articles in which the answer occurs are left out: it stands in the document once.
    """
    articles = [
        article for article in wiki_articles(held_out=True) if without.lower() not in article.text.lower()
    ]
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
