"""How long a document is: draws a length in tokens and cuts texts to it. Knows nothing of what they say."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from judgeq.language_model import LanguageModel


def draw_length(tokens: tuple[int, int], rng: random.Random) -> int:
    """Log-uniform between both, so that half of the documents are shorter than the geometric mean."""
    return round(math.exp(rng.uniform(math.log(tokens[0]), math.log(tokens[1]))))


def count_tokens(lm: LanguageModel, text: str) -> int:
    """Tokens of `text` read as data, without the chat template."""
    return len(_encode(lm, text)["input_ids"])


def fit(
    lm: LanguageModel, text: str, longest: int, *, shortest: int = 0, borders: Sequence[str] = ("\n",)
) -> str:
    """The beginning of `text`, at most `longest` tokens.

    Args:
        shortest: tokens that a cut at a border must leave.
        borders: where to cut, the best place first; with none in reach the cut is anywhere.
    """
    offsets = _encode(lm, text, return_offsets_mapping=True)["offset_mapping"]
    if len(offsets) <= longest:
        return text
    low, end = offsets[min(shortest, longest)][0], offsets[longest][0]
    for border in borders:
        at = text.rfind(border, low, end + len(border))
        if at > 0 and text[:at].strip():
            return text[:at]
    return text[:end]


def _encode(lm: LanguageModel, text: str, **more: Any) -> Any:
    return lm.tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False, **more)
