"""A prompt that has been read, the answers being written from it, and what each of them cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from judgeq.config import Decoding
from judgeq.inference.decode import Step, decode
from judgeq.inference.decode_batch import PendingAnswer, decode_together
from judgeq.inference.decode_eviction import DecodingEviction
from judgeq.inference.maps import retention_map
from judgeq.inference.plan import Retained
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief, hash_of_texts, same
from judgeq.prompts.prompt import Prompt
from judgeq.retention import RetentionMap


@dataclass(frozen=True)
class Timing:
    """Measured wall times in seconds.

    Attributes:
        prefill_s: reading the prompt, shared by all methods that were asked together; the oracle and methods with a
            draft add their second look.
        ttft_s: from the call to the first token of this answer, prefill included.
        decode_tokens_per_s: tokens after the first over the time they took; 0.0 for a one-token answer.
    """

    prefill_s: float
    ttft_s: float
    decode_tokens_per_s: float


@dataclass(frozen=True)
class Answer:
    """What a method answered, what it kept for that and what it cost.

    Attributes:
        text: the answer.
        method, model: names.
        budget: rows per KV head that the budget came to.
        prompt_tokens: length of the prompt, template included.
        retention: kept rows and scores, tied to the document.
        kv_bytes: bytes of retained keys and values when decoding starts, measured from the tensors.
        kv_bytes_at_end: the same when the answer has come to its end, with the answer's own rows and room set aside for
            more; None where answers were written side by side, into memory that they share.
        full_kv_bytes: bytes of the prompt's complete keys and values, measured as they passed.
        peak_rows: most rows held at once during the prefill, summed over layers.
        timing: measured times.
        finish: `"end"`, `"stop"` or `"length"`; `"cancelled"` when the reader left before.
        notices: sentences a person should see, such as a budget that exceeds the prompt.
        query_aware: the question was visible when rows were chosen.
        held: where rows were judged again, `[layer][head]`, the tokens whose rows were held at the end, ascending; the
            answer's first token has the number `prompt_tokens`. None where only the prompt's rows were judged.
    """

    __repr__, __eq__, __hash__ = brief, same, hash_of_texts

    text: str
    method: str
    model: str
    budget: int
    prompt_tokens: int
    retention: RetentionMap
    kv_bytes: int
    kv_bytes_at_end: int | None
    full_kv_bytes: int
    peak_rows: int
    timing: Timing
    finish: str
    notices: tuple[str, ...] = ()
    query_aware: bool = True
    held: tuple[tuple[np.ndarray, ...], ...] | None = None

    @property
    def kept_rows(self) -> list[list[int]]:
        """Retained rows of each layer and KV head, `[layer][head]`."""
        return self.retention.kept_rows.tolist()

    @property
    def retention_at_end(self) -> RetentionMap:
        """What was left of the prompt at the end; the scores are those of the prefill."""
        if self.held is None:
            return self.retention
        kept = tuple(tuple(rows[rows < self.prompt_tokens] for rows in layer) for layer in self.held)
        return replace(self.retention, kept=kept)

    def to_dict(self) -> dict[str, Any]:
        """What the command line prints as JSON."""
        return {
            "model": self.model,
            "method": self.method,
            "budget": self.budget,
            "query_aware": self.query_aware,
            "prompt_tokens": self.prompt_tokens,
            "kept_rows": self.kept_rows,
            "kv_bytes": self.kv_bytes,
            "kv_bytes_at_end": self.kv_bytes_at_end,
            "full_kv_bytes": self.full_kv_bytes,
            "peak_rows": self.peak_rows,
            "answer": self.text,
            "finish": self.finish,
            "ttft_s": round(self.timing.ttft_s, 4),
            "prefill_s": round(self.timing.prefill_s, 4),
            "decode_tokens_per_s": round(self.timing.decode_tokens_per_s, 3),
            "notices": list(self.notices),
        }


@dataclass(eq=False)
class Writer:
    """One method's answer while it is being written; iterate it for steps, then take `answer()`."""

    __repr__ = brief

    lm: LanguageModel
    retained: Retained
    reading: Reading
    decoding: Decoding
    rejudging: DecodingEviction | None = None
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kv_bytes = self.retained.cache.kv_bytes
        forward = self.rejudging.next_logits if self.rejudging else None
        self._decode = decode(self.lm, self.retained.cache, self.reading.logits, self.decoding, forward)

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.retained.plan.method.name

    def __iter__(self) -> Iterator[Step]:
        while True:
            self.lm.check_cast(self.retained.cache.layers[0].keys, "The prompt", "ask again")
            step = next(self._decode, None)
            if step is None:
                return
            self.steps.append(step)
            yield step

    @cached_property
    def retention(self) -> RetentionMap:
        """What was kept; known before the first token is written."""
        return retention_map(
            self.lm, self.reading.prompt, self.retained, query_aware=self.reading.query_aware
        )

    @property
    def timing(self) -> Timing:
        """What the answer took as far as it is written."""
        seconds = [step.seconds for step in self.steps]
        later = sum(seconds[1:])
        prefill_s = self.reading.prefill_s + self.retained.extra_s
        return Timing(
            prefill_s=prefill_s,
            ttft_s=prefill_s + (seconds[0] if seconds else 0.0),
            decode_tokens_per_s=(len(seconds) - 1) / later if later else 0.0,
        )

    def finish(self) -> Answer:
        """Write to the end."""
        for _ in self:
            pass
        return self.answer()

    def answer(self) -> Answer:
        """The answer as far as it is written."""
        text = "".join(step.text for step in self.steps)
        answer = self.answer_of(
            text, (self.steps[-1].finish if self.steps else None) or "cancelled", self.timing
        )
        held = None if self.rejudging is None else _arrays(self.rejudging.held())
        return replace(answer, kv_bytes_at_end=self.retained.cache.kv_bytes, held=held)

    def answer_of(self, text: str, finish: str, timing: Timing) -> Answer:
        """An answer that was written elsewhere, from the rows that were kept here."""
        return Answer(
            text=text,
            method=self.name,
            model=self.lm.name,
            budget=self.retained.plan.budget,
            prompt_tokens=self.reading.prompt.tokens,
            retention=self.retention,
            kv_bytes=self.kv_bytes,
            kv_bytes_at_end=None,
            full_kv_bytes=self.reading.full_kv_bytes,
            peak_rows=self.reading.peak_rows,
            timing=timing,
            finish=finish,
            notices=self.reading.notices,
            query_aware=self.reading.query_aware,
        )


def generate_batch(lm: LanguageModel, writers: Sequence[Writer]) -> list[Answer]:
    """The answers of several writers, greedy, side by side."""
    unwritten = [PendingAnswer(each.retained.cache, each.reading.logits, each.decoding) for each in writers]
    answers = []
    for writer, written in zip(writers, decode_together(lm, unwritten), strict=True):
        prefill_s = writer.reading.prefill_s
        later = len(written.tokens) - 1
        timing = Timing(prefill_s, prefill_s, later / written.seconds if later else 0.0)
        answers.append(writer.answer_of(written.text, written.finish or "cancelled", timing))
    return answers


def _arrays(held: list[list[torch.Tensor]]) -> tuple[tuple[np.ndarray, ...], ...]:
    return tuple(tuple(rows.numpy() for rows in layer) for layer in held)


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt that has been read once, for several methods.

    Attributes:
        prompt: the prompt.
        writers: one a method, in the order asked for; each writes its own answer.
        logits: (1, V) for the first token.
        full_kv_bytes, peak_rows: see `Answer`.
        prefill_s: seconds from the call until the first token could be chosen, without any second look.
        notices: sentences a person should see.
        query_aware: the question was visible when rows were chosen.
    """

    __repr__ = brief

    prompt: Prompt
    logits: torch.Tensor
    full_kv_bytes: int
    peak_rows: int
    prefill_s: float
    notices: tuple[str, ...]
    query_aware: bool = True
    writers: list[Writer] = field(default_factory=list)
