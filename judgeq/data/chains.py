"""Questions that need many rows at once: chains of references, tallies, lists of values, long codes, a meeting.

The abilities are those that RULER asks for too, in sentences of our own: no template of RULER or of Needle in a
Haystack is used. Stored responses belong to these examples (`assets/experiments/memory_rows`): a changed sentence, or
another order of draws, gives other prompts.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from judgeq.data.articles import Article, wiki_articles
from judgeq.data.example import Example, GeneratedSource, ask_at_random, draw_shape
from judgeq.data.facts import distinct
from judgeq.data.lengths import draw_length
from judgeq.data.templates import TEMPLATES, WORDS, code_name, digits, label, person
from judgeq.data.wiki import assemble, plant_sentences
from judgeq.models.language_model import LanguageModel

LED_SHARE, ARTICLES_SHARE = 0.4, 0.6
SHORTEST_TEXT = 60  # tokens
REPEATS, FILLER_TOKENS = 8, 21  # of a filler in one passage; about how long it is
TALLY_TOKENS = 8  # about how long an entry of a list is


@dataclass(frozen=True)
class ChainsSource(GeneratedSource):
    """Facts that have to be put together, in encyclopaedia articles, in sentences that repeat, or alone."""

    held_out: bool = False

    name: ClassVar[str] = "chains"
    stream: ClassVar[str] = "{seed}:chains:{at}"

    def build(self, lm: LanguageModel, tokens: tuple[int, int], rng: random.Random) -> Example:
        return draw_shape(SHAPES, rng, _Paper(lm, wiki_articles(self.held_out), draw_length(tokens, rng)))


@dataclass(frozen=True)
class _Paper:
    """What facts are planted into.

    Attributes:
        tokens: about how long the document is.
    """

    lm: LanguageModel
    articles: Sequence[Article]
    tokens: int

    def passages(self, rng: random.Random, share: float = 1.0) -> list[str]:
        """Articles, or sentences that repeat, for this share of the document."""
        wanted = max(SHORTEST_TEXT, round(self.tokens * share))
        if rng.random() < ARTICLES_SHARE:
            return [article.text for article in assemble(self.lm, self.articles, wanted, rng)]
        passage = " ".join([rng.choice(TEMPLATES["chains"]["fillers"])] * REPEATS)
        return [passage] * max(1, wanted // (REPEATS * FILLER_TOKENS))


def _ask(
    passages: Sequence[str], question: str, kind: str, rng: random.Random, answers: Sequence[str], lead: str
) -> Example:
    """As `ask_at_random`, with the answer begun by `lead` in 40 % of the cases."""
    example = ask_at_random(passages, question, kind, rng, answers)
    return replace(example, answer_prefix=lead if rng.random() < LED_SHARE else "")


def _handed_on(paper: _Paper, rng: random.Random) -> Example:
    """Two things that pass from hand to hand: who held one of them, or who has it in the end?"""
    people = distinct(person, 2 * rng.randint(3, 6), rng)
    things = rng.sample(WORDS["noun"], 2)
    chains = people[::2], people[1::2]
    sentences: list[str] = []
    for thing, chain in zip(things, chains, strict=True):
        sentences.append(f"At first the {thing} belonged to {chain[0]}.")
        sentences += [f"{giver} handed the {thing} to {taker}." for giver, taker in itertools.pairwise(chain)]
    passages = plant_sentences(paper.passages(rng), sentences, rng, in_order=True)
    at = rng.randrange(2)
    thing, chain = things[at], chains[at]
    if rng.random() < 0.5:
        lead = f"The {thing} was held by"
        return _ask(passages, f"List everyone who held the {thing}, in order.", "handed", rng, chain, lead)
    lead = f"In the end the {thing} was with"
    return _ask(passages, f"Who has the {thing} in the end?", "handed", rng, chain[-1:], lead)


def _same_as(paper: _Paper, rng: random.Random) -> Example:
    """Boxes with one number: the first is given it, each further one refers to the one before."""
    groups, sentences = [], []
    for _ in range(rng.randint(1, 3)):
        names, value = distinct(label, rng.randint(3, 6), rng), digits(4, 6)(rng)
        sentences.append(f"Box {names[0]} opens with {value}.")
        sentences += [
            f"Box {later} opens with the same number as box {earlier}." for earlier, later in itertools.pairwise(names)
        ]
        groups.append((names, value))
    passages = plant_sentences(paper.passages(rng), sentences, rng, in_order=True)
    names, value = rng.choice(groups)
    if rng.random() < 0.6:
        question = f"Which boxes open with the number {value}? Name all of them."
        return _ask(passages, question, "same", rng, names, f"These boxes open with {value}:")
    asked = rng.choice(names)
    question = f"With which number does box {asked} open?"
    return _ask(passages, question, "same", rng, [value], f"Box {asked} opens with")


def _tally(paper: _Paper, rng: random.Random) -> Example:
    """A long list in which some entries come again and again: which are they?

    Words of a small pool may come as often by chance; whatever does counts as an answer.
    """
    pool = (
        [*WORDS["goods"], *WORDS["colour"], *WORDS["noun"], *WORDS["town"]]
        if rng.random() < 0.5
        else [_invented(rng) for _ in range(120)]
    )
    winners = rng.sample(pool, rng.randint(1, 5))
    others = [word for word in pool if word not in winners]
    length = max(30, min(paper.tokens // TALLY_TOKENS, 400))
    times = rng.randint(4, 8)
    listed = winners * times + [rng.choice(others) for _ in range(length - len(winners) * times)]
    counts = Counter(listed)
    winners = [word for word, count in counts.most_common() if count >= times][:8]
    rng.shuffle(listed)
    form = rng.choice(("{n}. {word}", "{word}", "- {word}", "order {n}: {word}"))
    joined = rng.choice(("\n", ", ", "; ", " ")) if form == "{word}" else rng.choice(("\n", "  "))
    text = joined.join(form.format(n=at, word=word) for at, word in enumerate(listed, 1))
    name = rng.choice(("orders", "votes", "entries of the log", "words of the telegram"))
    question = f"Which of the {name} occur most often? Name the {len(winners)} most frequent."
    lead = f"The most frequent {name} are"
    return _ask([f"These are the {name}.", text], question, "tally", rng, winners, lead)


def _values(paper: _Paper, rng: random.Random) -> Example:
    """Subjects with several values each: all of one subject's, or one value of several subjects?"""
    draw = rng.choice((digits(5, 8), _code, label, _hex))
    subjects = distinct(code_name, rng.randint(2, 5), rng)
    values = {subject: distinct(draw, rng.randint(1, 5), rng) for subject in subjects}
    form = rng.choice(
        (
            "One of the seals of the {subject} shows {value}.",
            "The {subject} was also seen with the mark {value}.",
            "Filed for the {subject}: {value}.",
        )
    )
    sentences = [form.format(subject=subject, value=value) for subject in subjects for value in values[subject]]
    rng.shuffle(sentences)
    passages = plant_sentences(paper.passages(rng), sentences, rng)
    if rng.random() < 0.6:
        asked = rng.choice(subjects)
        question = f"Which values does the text give for the {asked}? List all of them."
        return _ask(passages, question, "values", rng, values[asked], f"For the {asked} the text gives")
    several = rng.sample(subjects, min(len(subjects), rng.randint(2, 4)))
    question = f"What does the text give for {', '.join(f'the {each}' for each in several)}?"
    answers = [values[each][0] for each in several]
    return _ask(passages, question, "values", rng, answers, f"For the {several[0]}")


def _codes(paper: _Paper, rng: random.Random) -> Example:
    """Long codes that belong to long codes, nothing but such lines: which one belongs to this one?"""
    draw = rng.choice((_hex, _code))
    line = f"The card {draw(rng)} unlocks {draw(rng)}."
    count = max(3, min(paper.tokens // len(paper.lm.tokenizer(line)["input_ids"]), 120))
    keys, values = (distinct(draw, count, rng) for _ in range(2))
    lines = [f"The card {key} unlocks {value}." for key, value in zip(keys, values, strict=False)]
    at = rng.randrange(len(lines))
    text = rng.choice(("\n", " ")).join(lines)
    question = f"What does the card {keys[at]} unlock?"
    return _ask([text], question, "codes", rng, [values[at]], f"The card {keys[at]} unlocks")


def _dialogue(paper: _Paper, rng: random.Random) -> Example:
    """A meeting where much is said: who needs what, by when and where?"""
    people = distinct(person, rng.randint(2, 5), rng)
    facts = {
        name: (rng.choice(WORDS["goods"]), rng.choice(WORDS["day"]), rng.choice(WORDS["place"])) for name in people
    }
    spoken = [
        f"{name}: I need the {goods} by {day}. Put it on the {place}, please."
        for name, (goods, day, place) in facts.items()
    ]
    talk = [sentence for passage in paper.passages(rng, share=0.6) for sentence in passage.split(". ") if sentence]
    lines = [f"{rng.choice(people)}: {sentence.rstrip('.')}." for sentence in talk]
    for line in spoken:
        lines.insert(rng.randint(0, len(lines)), line)
    name = rng.choice(people)
    goods, day, place = facts[name]
    question, answer, lead = rng.choice(
        (
            (f"By which day does {name} need something?", day, f"{name} needs it by"),
            (f"What does {name} need?", goods, f"{name} needs the"),
            (f"Where should the thing for {name} be put?", place, "It should be put on the"),
        )
    )
    return _ask(["\n".join(lines)], question, "dialogue", rng, [answer], lead)


def _invented(rng: random.Random) -> str:
    """Such as `velkotar`."""
    return "".join(rng.choices(WORDS["syllable"], k=rng.randint(2, 4)))


def _hex(rng: random.Random) -> str:
    """Such as `3fa0c1-77b2`."""
    parts = rng.choice(((6, 4), (8,), (4, 4, 4), (8, 4, 4, 12)))
    return "-".join("".join(rng.choices("0123456789abcdef", k=size)) for size in parts)


def _code(rng: random.Random) -> str:
    """Such as `quiet-lantern-482`."""
    return f"{code_name(rng).replace(' ', '-')}-{rng.randint(100, 999)}"


SHAPES: dict[Callable[..., Example | None], float] = {
    _handed_on: 2,
    _same_as: 2,
    _tally: 2,
    _values: 3,
    _codes: 2,
    _dialogue: 1.5,
}
"""How often each shape is drawn."""
