"""The memory of rows on another model and GPU: a calculation, labelled as such. Knows nothing of Gradio.

The arithmetic is `judgeq.estimate`'s; input from the page is checked here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from app import text
from app.sections.ask.cards import percent
from app.templates import render
from judgeq.config import ROW_BITS
from judgeq.errors import InputError
from judgeq.estimate import Memory, estimate
from judgeq.look.format import size
from judgeq.models.shapes import SHAPES, config_of_shape

MODELS = {
    "smollm2-135m": "SmolLM2 135M, the one here",
    "llama-3.2-1b": "Llama 3.2 1B",
    "smollm2-1.7b": "SmolLM2 1.7B",
    "qwen3-1.7b": "Qwen3 1.7B",
    "qwen3-4b": "Qwen3 4B",
    "mistral-7b-v0.3": "Mistral 7B v0.3",
    "llama-3.1-8b": "Llama 3.1 8B",
    "qwen3-8b": "Qwen3 8B",
    "llama-3.1-70b": "Llama 3.1 70B",
}
"""Shapes that are offered, by their well-known names."""
QUANTIZATIONS = {16: None, 8: "8bit", 4: "4bit"}
ROUNDED = {16: None} | {bits: bits for bits in ROW_BITS}
GB = 1_000_000_000
MOST_MEMORY = 10_000


@dataclass(frozen=True)
class Setting:
    """What is calculated.

    Attributes:
        model: one of `MODELS`.
        tokens: length of a document, with question and template.
        rows: rows per KV head that are kept.
        row_bits, weight_bits: 16, 8 or 4.
        memory: of the GPU, in units of 10^9 bytes.
    """

    model: str
    tokens: int
    rows: int
    row_bits: int = 16
    weight_bits: int = 16
    memory: float = 24

    def __post_init__(self) -> None:
        if self.model not in list(MODELS):  # a list, since anything may come from outside
            raise InputError(f"There is no model {self.model!r} to calculate for: choose one of the list")
        if self.row_bits not in list(ROUNDED) or self.weight_bits not in list(QUANTIZATIONS):
            raise InputError("Rows and weights can be stored in 16, 8 or 4 bits: choose one of these")
        if not 0 < self.memory <= MOST_MEMORY:
            raise InputError(f"A GPU has between 0 and {MOST_MEMORY:,} GB of memory: give a number between")
        limit = SHAPES[self.model]["max_position_embeddings"]
        if not 1 <= self.tokens <= limit:
            raise InputError(f"{MODELS[self.model]} reads 1 to {limit:,} tokens: give a length between")
        if self.rows < 1:
            raise InputError("At least one row has to be kept: give a number of at least 1")

    @property
    def calculated(self) -> Memory:
        """Bytes; what is kept in 16 bits is bfloat16."""
        return estimate(
            config_of_shape(self.model),
            prompt_tokens=self.tokens,
            budget=self.rows,
            quantization=QUANTIZATIONS[self.weight_bits],
            row_bits=ROUNDED[self.row_bits],
        )


def setting(
    model: str,
    tokens: float | None,
    rows: float | None,
    row_bits: int,
    weight_bits: int,
    memory: float | None,
) -> Setting:
    """A setting as typed on the page.

    Raises:
        InputError: empty, not a number, or out of range.
    """
    numbers: list[float] = []
    for name, value in (("length", tokens), ("rows", rows), ("memory", memory)):
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise InputError(text.CALCULATOR_EMPTY[name])
        numbers.append(float(value))
    return Setting(model, int(numbers[0]), int(numbers[1]), row_bits, weight_bits, numbers[2])


def table(chosen: Setting) -> str:
    """The result as HTML, the summary first."""
    found = chosen.calculated
    capacity = int(chosen.memory * GB)
    full, kept = (found.prompts_within(capacity, kept=kept) for kept in (False, True))
    share = found.kept_rows / found.full_rows
    rows = (
        (text.CALCULATED_WEIGHTS, size(found.weights), size(found.weights), ""),
        (
            text.CALCULATED_DOCUMENT,
            size(found.full_rows),
            size(found.kept_rows),
            percent(share) if share < 1 else "",
        ),
        (text.CALCULATED_FIT.format(memory=f"{chosen.memory:g}"), f"{full:,}", f"{kept:,}", ""),
    )
    sentence = _sentence(chosen, found.weights > capacity, full, kept)
    return render("calculator/result.j2", problem="", sentence=sentence, rows=rows)


def problem(error: InputError) -> str:
    """The error message, as HTML."""
    return render("calculator/result.j2", problem=str(error))


def _sentence(chosen: Setting, too_large: bool, full: int, kept: int) -> str:
    words = {
        "model": MODELS[chosen.model],
        "memory": f"{chosen.memory:g}",
        "full": _documents(full),
        "kept": _documents(kept),
        "tokens": f"{chosen.tokens:,}",
    }
    if too_large:
        return text.CALCULATED_TOO_LARGE.format(**words)
    return (text.CALCULATED_SAME if full == kept else text.CALCULATED_SENTENCE).format(**words)


def _documents(count: int) -> str:
    return {0: "no document", 1: "one document"}.get(count, f"{count:,} documents")
