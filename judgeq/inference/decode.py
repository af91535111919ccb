"""Writing the answer from any cache, one documented step at a time: the choice of a token, stop texts, how it ends.

Knows nothing of methods or documents.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from tokenizers.decoders import DecodeStream
from torch import Tensor
from transformers import Cache

from judgeq.attention.call import Observer
from judgeq.config import Decoding
from judgeq.models.language_model import LanguageModel
from judgeq.values import seed64

Finish = Literal["end", "stop", "length"]


@dataclass(frozen=True)
class Step:
    """One decoded token.

    Attributes:
        index: 0 for the first token.
        token: its id.
        text: what it adds to the answer; empty while a character is incomplete or a stop text may be starting.
        seconds: time this step took (choosing the token and, after the first, one forward pass).
        finish: why the answer ends here (`"end"` of text, `"stop"` text, `"length"`), else None.
    """

    index: int
    token: int
    text: str
    seconds: float
    finish: Finish | None = None


def decode(
    lm: LanguageModel,
    cache: Cache,
    logits: Tensor,
    decoding: Decoding,
    forward: Callable[[int], Tensor] | None = None,
) -> Iterator[Step]:
    """Continue from a cache.

    Closing the generator ends the work at once; the cache then holds the tokens written so far.

    Args:
        cache: rows of the prompt; extended by the answer's.
        logits: (1, V) for the first token.
        decoding: length, sampling, stop texts.
        forward: gives (1, V) after one more token; by default `next_logits`, which keeps all rows.
    """
    forward = forward or partial(next_logits, lm, cache)
    generator = torch.Generator(device=lm.device).manual_seed(seed64(decoding.seed))
    transcript = Transcript(lm, decoding)
    token, finish = -1, None
    while finish is None:
        started = time.perf_counter()
        if transcript.tokens:
            logits = forward(token)
        token = choose(logits, decoding, generator)
        text, finish = transcript.take(token)
        yield Step(transcript.tokens - 1, token, text, time.perf_counter() - started, finish)


class Transcript:
    """Turns the tokens of one answer into its text, up to its end.

    Attributes:
        tokens: taken so far.
    """

    def __init__(self, lm: LanguageModel, decoding: Decoding) -> None:
        self._lm, self._longest = lm, decoding.max_new_tokens
        self._stream = DecodeStream(skip_special_tokens=True)
        self._guard = _StopGuard(decoding.stop)
        self.tokens = 0

    def take(self, token: int) -> tuple[str, Finish | None]:
        """What a token adds to the text, and why the answer ends with it, if it does."""
        self.tokens += 1
        if token in self._lm.eos_ids:
            return self._guard.flush(), "end"
        text, stopped = self._guard.feed(self._stream.step(self._lm.tokenizer._tokenizer, token) or "")
        if stopped:
            return text, "stop"
        if self.tokens == self._longest:
            return text + self._guard.flush(), "length"
        return text, None

    def end(self) -> str:
        """The withheld text, when no more tokens follow."""
        return self._guard.flush()


def choose(logits: Tensor, decoding: Decoding, generator: torch.Generator) -> int:
    """Pick the next token from (1, V) logits: the best one, or a draw from the nucleus."""
    if decoding.temperature == 0:
        return int(logits.argmax(-1))
    weights, order = (logits[0].float() / decoding.temperature).softmax(-1).sort(descending=True)
    outside = weights.cumsum(-1) - weights >= decoding.top_p  # the first token is never outside
    weights = weights.masked_fill(outside, 0)
    return int(order[torch.multinomial(weights, 1, generator=generator)])


def next_logits(lm: LanguageModel, cache: Cache, token: int, observer: Observer | None = None) -> Tensor:
    """(1, V) after one more token, whose rows the cache stores; an observer may read its attention."""
    return logits_after(lm, cache, torch.tensor([[token]]), observer)[:, -1]


@torch.inference_mode()
def logits_after(lm: LanguageModel, cache: Cache, ids: Tensor, observer: Observer | None = None) -> Tensor:
    """(1, N, V) after each of more tokens (1, N), whose rows the cache stores; an observer may read their attention."""
    return lm.model(input_ids=ids.to(lm.device), cache=cache, use_cache=True, observer=observer).logits


class _StopGuard:
    """Lets text through until a stop text appears; withholds what may be the beginning of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self.stops = tuple(stop for stop in stops if stop)
        self._withheld = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """What may be shown, and whether the answer ends here."""
        self._withheld += text
        ends = [at for stop in self.stops if (at := self._withheld.find(stop)) >= 0]
        if ends:
            return self._withheld[: min(ends)], True
        keep = max((self._overlap(stop) for stop in self.stops), default=0)
        shown, self._withheld = (
            self._withheld[: len(self._withheld) - keep],
            self._withheld[len(self._withheld) - keep :],
        )
        return shown, False

    def flush(self) -> str:
        """The rest, once no stop text can follow any more."""
        shown, self._withheld = self._withheld, ""
        return shown

    def _overlap(self, stop: str) -> int:
        sizes = range(min(len(stop) - 1, len(self._withheld)), 0, -1)
        return next((size for size in sizes if self._withheld.endswith(stop[:size])), 0)
