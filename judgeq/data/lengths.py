"""How long a document is: draws a length in tokens and cuts texts to it. Knows nothing of what they say."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from judgeq.models.language_model import LanguageModel


def draw_length(tokens: tuple[int, int], rng: random.Random) -> int:
    """Log-uniform between both, so that half of the documents are shorter than the geometric mean."""
    return round(math.exp(rng.uniform(math.log(tokens[0]), math.log(tokens[1]))))


def count_tokens(lm: LanguageModel, text: str) -> int:
    """Tokens of `text` read as data, without the chat template."""
    return len(lm.encode(text, is_data=True).ids)


def fit(lm: LanguageModel, text: str, longest: int, *, shortest: int = 0, borders: Sequence[str] = ("\n",)) -> str:
    """The beginning of `text`, at most `longest` tokens.

    Args:
        shortest: tokens that a cut at a border must leave.
        borders: where to cut, the best place first; with none in reach the cut is anywhere.
    """
    offsets = lm.encode(text, is_data=True).offsets
    if len(offsets) <= longest:
        return text
    low, end = offsets[min(shortest, longest)][0], offsets[longest][0]
    for border in borders:
        at = text.rfind(border, low, end + len(border))
        if at > 0 and text[:at].strip():
            return text[:at]
    return text[:end]
