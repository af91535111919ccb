"""The words of a prompt, known from its tokens: runs of characters without a space, so numbers and codes too.

Needs a fast tokenizer and nothing else of this library.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LONGEST_WORD = 64
"""Tokens; what is longer without a space counts as several words of so many tokens."""


def number_words(tokenizer: Any, input_ids: Tensor) -> Tensor:
    """The number of each token's word in its prompt: 0 for those of the first one, and so on.

    Special tokens, ideographs and pieces of characters are words of their own, and so are all tokens of a model with
    random weights, which has no tokenizer (None).

    Args:
        input_ids: (B, T) int64, without padding.

    Returns:
        (B, T) int64 on the CPU, not falling.
    """
    if tokenizer is None:
        return torch.arange(input_ids.shape[1]).expand(input_ids.shape)
    texts = _texts(tokenizer, input_ids.unique().tolist())
    return torch.tensor([_numbers([texts[token] for token in ids]) for ids in input_ids.tolist()])


def _texts(tokenizer: Any, tokens: Sequence[int]) -> dict[int, str]:
    """The characters of each token inside a text, spaces included; empty for special tokens."""
    encoded = tokenizer.backend_tokenizer.encode("a", add_special_tokens=False).tokens
    letter = next(name for name in encoded if "a" in name)
    join, special = tokenizer.convert_tokens_to_string, tokenizer.added_tokens_decoder
    before = len(join([letter]))  # some tokenizers drop the space that a text begins with
    names = zip(tokens, tokenizer.convert_ids_to_tokens(tokens), strict=True)
    return {token: "" if token in special or name is None else join([letter, name])[before:] for token, name in names}


def _numbers(texts: Sequence[str]) -> list[int]:
    numbers, number, length, is_open = list[int](), -1, 0, False
    for text in texts:
        is_alone = not text or any(char == "\ufffd" or _is_ideograph(char) for char in text)
        if is_open and not is_alone and not text[0].isspace() and length < LONGEST_WORD:
            length += 1
        else:
            number, length = number + 1, 1
        is_open = not is_alone and not text[-1].isspace()
        numbers.append(number)
    return numbers


def _is_ideograph(char: str) -> bool:
    """Whether a character, kana included, is a word where no spaces are written."""
    return unicodedata.name(char, "").startswith(("CJK", "HIRAGANA", "KATAKANA"))
