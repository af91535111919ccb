"""Made-up facts and records that are planted into documents, with the questions for them.

Only for training. What evaluation plants has families, words and values of its own (`judgeq.data.planted`), and no
template of RULER or of Needle in a Haystack is used in either part.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Draw = Callable[[random.Random], str]


@dataclass(frozen=True)
class Fact:
    """A family of facts: a sentence with a subject and a value, and how one asks for the value.

    Attributes:
        sentence: with `{subject}` and `{value}`, the value near the end.
        question: with `{subject}`.
        subject, value: draw one at random.
        everything: question for all facts of the family at once; empty where nobody asks that.
    """

    sentence: str
    question: str
    subject: Draw
    value: Draw
    everything: str = ""

    @property
    def lead(self) -> str:
        """The sentence up to its value: an answer prefix."""
        return self.sentence.partition("{value}")[0].rstrip()


def one_of(*values: str) -> Draw:
    """One of the values."""
    return lambda rng: rng.choice(values)


def number(low: int, high: int) -> Draw:
    """A whole number between both."""
    return lambda rng: str(rng.randint(low, high))


def digits(shortest: int, longest: int) -> Draw:
    """A number of so many digits, zeros in front included."""
    return lambda rng: "".join(rng.choices(string.digits, k=rng.randint(shortest, longest)))


def label(rng: random.Random) -> str:
    """Such as `KT-407` or `M83Q`."""
    letters = "".join(rng.choices(string.ascii_uppercase, k=2))
    return rng.choice(("{0}-{1}", "{0}{1}", "{1}{0}")).format(letters, rng.randint(10, 999))


def _phrases(listed: str) -> tuple[str, ...]:
    return tuple(listed.split(", "))


FIRST = tuple(
    "Amelia Tomas Ingrid Ravi Clara Joaquim Hana Peter Fatima George Lucia Samuel Noor Emil Wanda Kofi Selma Hugo "
    "Yara Anton Mirela Declan Aiko Bruno Thea Oskar Leila Marek".split()
)
LAST = tuple(
    "Brandt Okafor Solheim Menon Whitfield Reis Kobayashi Lindqvist Rahal Tennant Moretti Adeyemi Novak Castellan "
    "Haugen Iversen Delacroix Petrov Quigley Santos Tanaka Ullman Vasquez Winther Yilmaz Zeller".split()
)
ROOMS = _phrases(
    "archive, boiler room, music room, greenhouse, print shop, observatory, east cellar, chapel, "
    "map room, bakery, stables, west tower, tea pavilion, clock workshop, infirmary"
)
PLACES = _phrases(
    "blue teapot, piano stool, second drawer, umbrella stand, tool shed, flour jar, coal bucket"
)
TOWNS = _phrases("Ashford, Bergen, Coimbra, Dijon, Elbeuf, Fiesole, Gdansk, Haarlem, Izmir, Jena, Kotor")
SHIPS = _phrases(
    "Marigold, Northern Star, Petrel, Sea Thrift, Albatross, Windrush, Grey Heron, Halcyon, Cormorant, "
    "Lady Anne, Tern, Evening Tide, Osprey, Polaris, Meridian, Kittiwake, Juniper"
)
DAYS = _phrases("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday")
COLOURS = _phrases("crimson, turquoise, amber, violet, olive green, navy blue, ivory, copper, lilac, teal")
GOODS = _phrases("linen, walnuts, copper wire, candles, oranges, slate, barley, paper, cork, salt, honey")
TRADES = _phrases("glazier, beekeeper, surveyor, organist, ferryman, bookbinder, gardener, locksmith, cooper")
ADJECTIVES = tuple(
    "amber brisk calm dusty eager faint gentle hollow icy jolly keen lively mellow narrow odd plain quiet rusty silent "
    "tidy upper vivid wild young".split()
)
NOUNS = tuple(
    "anchor basket candle dragon engine falcon garden hammer island jacket kettle lantern mirror needle orchard pepper "
    "quarry ribbon saddle thimble valley window yarn zephyr".split()
)


def person(rng: random.Random) -> str:
    """First and last name."""
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}"


def code_name(rng: random.Random) -> str:
    """Such as `rusty kettle`."""
    return f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"


_room = one_of(*ROOMS)
_ship = one_of(*SHIPS)

FACTS = (
    Fact(
        "{subject} rents locker {value}.",
        "Which locker does {subject} rent?",
        person,
        number(11, 989),
        "Who rents which locker?",
    ),
    Fact(
        "The spare key of the {subject} lies in the {value}.",
        "Where is the spare key of the {subject}?",
        _room,
        one_of(*PLACES),
        "Where are the spare keys?",
    ),
    Fact(
        "{subject} grew up in {value}.",
        "In which town did {subject} grow up?",
        person,
        one_of(*TOWNS),
        "Who grew up where?",
    ),
    Fact(
        "The {subject} carried {value} crates of oranges.",
        "How many crates of oranges did the {subject} carry?",
        _ship,
        number(20, 900),
        "How many crates of oranges did each ship carry?",
    ),
    Fact(
        "The door of the {subject} opens with the code {value}.",
        "What code opens the door of the {subject}?",
        _room,
        digits(4, 7),
        "List all door codes.",
    ),
    Fact(
        "{subject} takes cello lessons every {value}.",
        "On which day does {subject} take cello lessons?",
        person,
        one_of(*DAYS),
        "Who takes cello lessons on which day?",
    ),
    Fact(
        "The hull of the {subject} was painted {value}.",
        "What colour was the hull of the {subject} painted?",
        _ship,
        one_of(*COLOURS),
        "Which colours were the hulls painted?",
    ),
    Fact(
        "You reach {subject} by telephone under extension {value}.",
        "Under which extension is {subject} reached?",
        person,
        digits(3, 5),
        "List the telephone extensions.",
    ),
    Fact(
        "Parcel {subject} weighs {value} grams.",
        "How many grams does parcel {subject} weigh?",
        label,
        digits(3, 6),
        "List all parcels with their weight.",
    ),
    Fact(
        "Under the heading {subject} the ledger shows {value} crowns.",
        "What sum does the ledger show under the heading {subject}?",
        code_name,
        digits(3, 7),
        "Which sums does the ledger show?",
    ),
    Fact(
        "The password for {subject} has been set to {value}.",
        "To what has the password for {subject} been set?",
        code_name,
        lambda rng: f"{rng.choice(NOUNS)}{rng.randint(10, 99)}",
        "List every password in the text.",
    ),
    Fact(
        "Shelf mark {subject} belongs to the book with the number {value}.",
        "Which number has the book with the shelf mark {subject}?",
        label,
        digits(5, 8),
        "List the shelf marks and their numbers.",
    ),
    Fact(
        "{subject} works as a {value}.",
        "What does {subject} work as?",
        person,
        one_of(*TRADES),
        "Who has which profession?",
    ),
)

COLUMNS: dict[str, Draw] = {
    "name": person,
    "town": one_of(*TOWNS),
    "ship": _ship,
    "colour": one_of(*COLOURS),
    "goods": one_of(*GOODS),
    "number": digits(4, 7),
    "weight": lambda rng: f"{rng.randint(2, 980)} kg",
    "price": lambda rng: f"{rng.randint(1, 900)}.{rng.randint(0, 99):02d}",
    "day": one_of(*DAYS),
    "trade": one_of(*TRADES),
    "code": label,
}
"""What a column of a made-up table may hold."""


def distinct(draw: Draw, count: int, rng: random.Random) -> list[str]:
    """Up to `count` different values; fewer where there are not so many."""
    found: dict[str, None] = {}
    for _ in range(8 * count):
        found.setdefault(draw(rng))
        if len(found) == count:
            break
    return list(found)


@dataclass(frozen=True)
class Table:
    """A made-up table.

    Attributes:
        header: names of the columns; the first one tells rows apart.
        rows: as many values each.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @classmethod
    def draw(cls, rows: int, rng: random.Random) -> Table:
        """A table of up to `rows` rows and two to five columns."""
        key = rng.choice(("name", "code", "number", "ship"))
        others = rng.sample([name for name in COLUMNS if name != key], rng.randint(1, 4))
        keys = distinct(COLUMNS[key], rows, rng)
        cells = tuple((value, *(COLUMNS[name](rng) for name in others)) for value in keys)
        return cls((key, *others), cells)

    def text(self, form: str) -> str:
        """As `markdown`, `csv`, `lines` or `records`."""
        if form == "markdown":
            lines: Sequence[Sequence[str]] = [self.header, ["---"] * len(self.header), *self.rows]
            return "\n".join("| " + " | ".join(line) + " |" for line in lines)
        if form == "csv":
            return "\n".join(",".join(line) for line in (self.header, *self.rows))
        if form == "lines":
            return "\n".join(f"{row[0]}: {', '.join(row[1:])}" for row in self.rows)
        pairs = (zip(self.header, row, strict=True) for row in self.rows)
        return "\n\n".join("\n".join(f"{name}: {value}" for name, value in row) for row in pairs)


TABLE_FORMS = ("markdown", "csv", "lines", "records")
