"""Settings: small frozen dataclasses that refuse bad values and survive a JSON round trip.

Knows nothing of tensors or models. Every `ValueError` names the field, the value and what would be accepted.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, Self

from judgeq.errors import InputError
from judgeq.objects import brief
from judgeq.output import write_file
from judgeq.values import checked_seed, number, settle, whole

Budget = int | float
"""Rows per KV head and layer (int), or the share of the prompt that is kept (float in (0, 1])."""

DEFAULT_BUDGET = 128
"""Rows per KV head and layer, wherever no budget is given."""

AUTO = "auto"
"""A method's name: Judge Q, or the stock answer where no soft tokens are known for the model."""

Allocation = Literal["uniform", "pyramid", "profile", "adakv", "pyramid+adakv", "profile+adakv"]
Unit = Literal["row", "word"]

RISK, CONFIDENCE = 0.1, 0.9
"""Defaults of a calibration: the largest share of answers that may be lost, and the confidence in that."""

ROW_BITS = (8, 4)
"""In how many bits a number of a kept row can be stored."""


class JsonConfig:
    """Mixin for dataclasses: `to_dict`, `from_dict`, `save`, `load`; unknown keys are refused, never dropped."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from `to_dict()`'s output.

        Raises:
            InputError: a key that this class does not have.
        """
        known = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return cls(**values)

    def save(self, path: Path) -> None:
        """Write as indented JSON."""
        write_file(path, json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote."""
        return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))


def command_options(values: Mapping[str, object]) -> str:
    """Settings as one types them: ` --max-tokens 768 --epochs 2`, with a space in front, empty without any."""
    return "".join(f" --{name.replace('_', '-')} {value}" for name, value in values.items())


def check_text(what: str, text: object) -> str:
    """Return `text` unchanged if it is one that a tokenizer reads, empty or not, else raise.

    Args:
        what: how a message calls it.

    Raises:
        InputError: not a `str`, or half a character in it, as a text that was cut inside an emoji has, or an argument
            of a command that is not UTF-8.
    """
    if not isinstance(text, str):
        raise InputError(f"The {what} is a value of type {type(text).__name__} and not a text: {_as_text(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise InputError(
            f"The {what} has half a character in it ({half}, a lone surrogate, at position {error.start:,}): give the "
            "whole one, and text from a terminal or a file as UTF-8"
        ) from None
    return text


def _as_text(value: object) -> str:
    """How to make a text of something else."""
    if isinstance(value, bytes | bytearray):
        return 'decode it first, as with .decode("utf-8")'
    if isinstance(value, PurePath):
        return 'give what the file says, as with .read_text(encoding="utf-8")'
    return "give a str"


def check_at_least(owner: str, field: str, value: float, minimum: float) -> None:
    """Raise an `InputError` unless `value` is a finite number of at least `minimum`."""
    found = number(value)
    if found is None or not math.isfinite(found) or found < minimum:
        raise InputError(f"{owner}.{field} is {value!r}; give a number of at least {minimum}")


def parse_budget(text: str) -> Budget:
    """Read a budget as typed by a person: `"128"` is rows, `"0.25"` or `"25%"` a share.

    Raises:
        InputError: not a number, or outside what `check_budget` accepts.
    """
    stripped = text.strip()
    try:
        if stripped.endswith("%"):
            return check_budget(float(stripped[:-1]) / 100)
        return check_budget(int(stripped) if stripped.lstrip("+-").isdigit() else float(stripped))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"budget {text!r} is not a number: give rows such as 128, or a share such as 0.25") from None


def check_budget(budget: Budget) -> Budget:
    """`budget` as Python's own int or float if it means something, else raise.

    Raises:
        InputError: not a number, rows below 1, or a share outside (0, 1].
    """
    found = number(budget)
    if found is None:
        raise InputError(f"budget is {budget!r}: give rows as an int (128) or a share as a float (0.25)")
    if isinstance(found, int) and found < 1:
        raise InputError(f"budget is {found} rows: keep at least 1 row per KV head")
    if isinstance(found, float) and not 0.0 < found <= 1.0:
        raise InputError(f"budget is a share of {found}: give a share above 0 and up to 1.0, or rows as an int")
    return found


def budget_rows(budget: Budget, prompt_tokens: int) -> int:
    """Rows to keep per KV head of a prompt of `prompt_tokens` tokens; never more than the prompt, never 0."""
    budget = check_budget(budget)
    rows = budget if isinstance(budget, int) else round(budget * prompt_tokens)
    return max(1, min(rows, prompt_tokens))


def check_chunk(chunk: int | None) -> int | None:
    """`chunk` as Python's own int, or None.

    Raises:
        InputError: not a whole number of tokens, at least 1.
    """
    if chunk is None:
        return None
    found = whole(chunk)
    if found is None or found < 1:
        raise InputError(
            f"chunk is {chunk!r}: give the most tokens of a pass, at least 1, or None for one pass over all"
        )
    return found


@dataclass(frozen=True)
class Selection(JsonConfig):
    """How scores become kept rows, and how these are stored.

    Attributes:
        sinks: first rows of the prompt that are always kept (StreamingLLM, arXiv 2309.17453). Of this and
            what follows methods have their own defaults, in the `selection` of their class.
        recent: last rows of the prompt that are always kept, inside the budget.
        pool: width of the max-pooling over neighbouring scores, odd; 1 = none. The paper's group uses 7. Every
            built-in method sets or inherits its own.
        unit: what is chosen as one after that: each `"row"`, or the rows of each `"word"` by its best one, since half a
            number is worth nothing. A word is what stands between two spaces, see `judgeq.prompts.token_words`.
        allocation: how the budget is split. `"uniform"`: every KV head of every layer the same; `"pyramid"`: early
            layers get more than late ones (PyramidKV, arXiv 2406.02069); `"profile"`: layers and heads get what a
            learned profile says; `"adakv"`: the heads of a layer compete for its rows (AdaKV, arXiv 2407.11550);
            `"pyramid+adakv"`, `"profile+adakv"`: layers get what the first says, and their heads compete.
        floor: share of its layer's mean budget that every head keeps where heads compete, in [0, 1].
        beta: how steep the pyramid is: the last layer gets the recent window and one `beta`-th of what the budget has
            beside it; 1 = no pyramid.
        value_aware: scores alone choose the first half of a head's rows; the others are chosen by score times what a
            row's value adds to the hidden states (CriticalKV, arXiv 2502.03805). For scores that are attention.
        bits: 8 or 4, in which every number of a kept row is stored (KIVI, arXiv 2402.02750); None = not quantized.
        memory: rows of the budget that are left to memory tokens, trained ones that read the prompt after the soft
            tokens and whose own rows are kept (RestoreKV, arXiv 2608.01247); 0 = none. None = for methods that score
            with soft tokens as many as `judgeq.inference.plan` says; for other methods none. Never more than half of a
            budget, and none where it covers the whole prompt.
    """

    sinks: int = 0
    recent: int = 0
    pool: int = 7
    unit: Unit = "row"
    allocation: Allocation = "uniform"
    floor: float = 0.2
    beta: int = 20
    value_aware: bool = False
    bits: int | None = None
    memory: int | None = None

    def __post_init__(self) -> None:
        settle(self)
        check_at_least("Selection", "sinks", self.sinks, 0)
        if self.memory is not None:
            check_at_least("Selection", "memory", self.memory, 0)
        check_at_least("Selection", "recent", self.recent, 0)
        check_at_least("Selection", "pool", self.pool, 1)
        if self.pool % 2 == 0:
            raise InputError(f"Selection.pool is {self.pool}; give an odd width, such as {self.pool + 1}")
        check_at_least("Selection", "floor", self.floor, 0)
        if self.floor > 1:
            raise InputError(f"Selection.floor is {self.floor}; give a share from 0 to 1")
        check_at_least("Selection", "beta", self.beta, 1)
        if self.bits not in (None, *ROW_BITS):
            raise InputError(f"Selection.bits is {self.bits!r}; give 8 or 4, or None for rows that are not quantized")

    @property
    def adapts(self) -> bool:
        """Heads of a layer compete for its rows."""
        return self.allocation.endswith("adakv")

    @property
    def is_pyramid(self) -> bool:
        """Early layers get more rows than late ones."""
        return self.allocation.startswith("pyramid")

    @property
    def needs_profile(self) -> bool:
        """A learned profile splits the budget."""
        return self.allocation.startswith("profile")


@dataclass(frozen=True)
class Decoding(JsonConfig):
    """How the answer is written.

    Attributes:
        max_new_tokens: longest answer in tokens.
        temperature: 0 = greedy; above 0 = sampled.
        top_p: nucleus of the sampled distribution, in (0, 1].
        seed: of the sampling, a whole number of at most 64 bits; the same seed gives the same answer.
        stop: text or texts that end the answer; they are cut off.
        evict_every: tokens of the answer after which rows are evicted again, the answer's own included, so that never
            more than the budget and this many are stored (see `judgeq.inference.decode_eviction`); None = only rows of
            the prompt are evicted.
    """

    __repr__ = brief

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    evict_every: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stop", self.stop or ())
        settle(self)
        checked_seed("Decoding.seed", self.seed)
        check_at_least("Decoding", "max_new_tokens", self.max_new_tokens, 1)
        if self.evict_every is not None:
            check_at_least("Decoding", "evict_every", self.evict_every, 1)
        check_at_least("Decoding", "temperature", self.temperature, 0)
        check_at_least("Decoding", "top_p", self.top_p, 0)
        if not 0 < self.top_p <= 1:
            raise InputError(f"Decoding.top_p is {self.top_p}; give a share above 0 and up to 1")
        for stop in self.stop:
            check_text("stop text", stop)
