"""Which source of examples a person names, and several of them mixed by weight."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from judgeq.data.chains import ChainsSource
from judgeq.data.code import CodeSource
from judgeq.data.example import Example, Source
from judgeq.data.jsonl import JsonLinesSource
from judgeq.data.manuals import FolderSource, ManualSource
from judgeq.data.records import ExactSource, RecordsSource
from judgeq.data.sharegpt import ShareGptSource
from judgeq.data.wiki import WikiSource
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel

Part = Literal["train", "held_out", "unseen"]
TRAINED = {
    each.name: each for each in (WikiSource, RecordsSource, ExactSource, ChainsSource, CodeSource, ShareGptSource)
}
"""Sources that are trained on, but for the part that each holds out."""
NAMES = (*TRAINED, "manuals")
ACCEPTED = (
    f"give {', '.join(NAMES)}, a FILE.jsonl, a text file or a folder of texts, or several with weights such as "
    "wiki:3,code:1"
)
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Mixture:
    """Examples of several sources, each with its weight."""

    parts: tuple[tuple[Source, float], ...]

    @property
    def name(self) -> str:
        """Such as `wiki:3,code:1`."""
        return ",".join(f"{source.name}:{weight:g}" for source, weight in self.parts)

    def examples(self, lm: LanguageModel, count: int, *, tokens: tuple[int, int], seed: int) -> list[Example]:
        """See `Source`; the seed and an example's place alone decide where it comes from."""
        weights = [weight for _, weight in self.parts]
        order = [random.Random(f"{seed}:{at}:part").choices(range(len(weights)), weights)[0] for at in range(count)]
        drawn = {
            part: iter(self.parts[part][0].examples(lm, number, tokens=tokens, seed=seed))
            for part, number in sorted(Counter(order).items())
        }
        return [next(drawn[part]) for part in order]


def parse_sources(text: str, *, part: Part = "train", skip_bad: bool = False) -> Source:
    """The source that `wiki`, `chats.jsonl` or `wiki:3,code:1` means; a name alone weighs 1.

    Args:
        part: `train`, or the part that is never trained on: `held_out` keeps a tenth of a JSON file back for
            measuring while one trains on the rest of it; `unseen` takes the whole file, as nothing here trains on it.
        skip_bad: leave out lines of JSON files that cannot be used.

    Raises:
        InputError: an unknown name, one twice, or a weight that is not a positive number.
    """
    parts = [_weighted(each.strip(), part, skip_bad) for each in text.split(",")]
    names = [source.name for source, _ in parts]
    if len(set(names)) < len(names):
        raise InputError(f"The data {text!r} names a source twice: give each once, with a weight")
    return parts[0][0] if len(parts) == 1 else Mixture(tuple(parts))


def report(source: Source) -> str:
    """What the last `examples` left out, for a person; empty where that is nothing."""
    match source:
        case JsonLinesSource():
            return source.report()
        case Mixture():
            return "; ".join(filter(None, (report(part) for part, _ in source.parts)))
    return ""


def _weighted(text: str, part: Part, skip_bad: bool) -> tuple[Source, float]:
    name, colon, given = text.partition(":")
    if not name:
        raise InputError(f"The data has no name: {ACCEPTED}")
    try:
        weight = float(given) if colon else 1.0
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise InputError(f"The weight {given!r} of the data {name!r} is not a positive number: {ACCEPTED}")
    return _source(name, part, skip_bad), weight


def _source(name: str, part: Part, skip_bad: bool) -> Source:
    held_out = part != "train"
    if name in TRAINED:
        return TRAINED[name](held_out=held_out)
    path = Path(name)
    if name != "manuals" and not path.exists():
        raise InputError(f"There is no data {name!r}, and no file or folder of that name: {ACCEPTED}")
    if path.is_file() and path.suffix in JSON_SUFFIXES:
        return JsonLinesSource(path, skip_bad, None if part == "unseen" else held_out)
    if part != "unseen":
        raise InputError(f"The data {name!r} is only for measuring: train on {', '.join(TRAINED)} or a FILE.jsonl")
    return ManualSource() if name == "manuals" else FolderSource(path)
