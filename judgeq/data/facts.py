"""Made-up facts and tables that are planted into documents, with the questions for them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from judgeq.data.templates import TEMPLATES, Draw, pattern


@dataclass(frozen=True)
class Fact:
    """A family of facts: a sentence with a subject and a value, and the question for the value.

    Attributes:
        sentence: with `{subject}` and `{value}`, the value near the end.
        question: with `{subject}`.
        subject, value: draw one at random.
        everything: question for all facts of the family at once; empty = there is none.
    """

    sentence: str
    question: str
    subject: Draw
    value: Draw
    everything: str = ""

    @classmethod
    def from_templates(cls, section: str) -> tuple[Fact, ...]:
        """The families of a section of `templates.toml`: `facts` to train on, `planted` to evaluate on."""
        return tuple(
            cls(**{**entry, "subject": pattern(entry["subject"]), "value": pattern(entry["value"])})
            for entry in TEMPLATES[section]
        )

    @property
    def lead(self) -> str:
        """The sentence up to its value: an answer prefix."""
        return self.sentence.partition("{value}")[0].rstrip()


FACTS = Fact.from_templates("facts")
COLUMNS: dict[str, Draw] = {name: pattern(text) for name, text in TEMPLATES["columns"].items()}
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
    """A made-up table; the first column identifies a row."""

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
