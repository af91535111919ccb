"""Answers and what they cost, and a prompt that has been read, from which they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from judgeq.inference.attending import Recorder, as_array, parts_apart
from judgeq.inference.decode import Step, decode, next_logits
from judgeq.inference.decode_batch import PendingAnswer, decode_together
from judgeq.inference.decode_eviction import DecodingEviction
from judgeq.inference.maps import retention_map
from judgeq.inference.plan import Retained
from judgeq.inference.prefill import Prefill
from judgeq.inference.request import evicts_while_decoding
from judgeq.inference.static_decode import StaticStep
from judgeq.objects import brief, hash_of_texts, same
from judgeq.prompts.prompt import Prompt
from judgeq.retention import Attended, RetentionMap


@dataclass(frozen=True)
class Timing:
    """Measured wall times in seconds.

    Attributes:
        prefill_s: reading the prompt, shared by all methods of one request; the oracle and methods with a draft add
            their second pass.
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
        budget: rows per KV head.
        prompt_tokens: length of the prompt, template included.
        retention: kept rows and scores, tied to the document.
        kv_bytes: bytes of retained keys and values when decoding starts, measured from the tensors.
        kv_bytes_at_end: the same at the end of the answer, with its own rows and the space preallocated for more; None
            where answers were written side by side, into memory that they share.
        full_kv_bytes: bytes of the prompt's complete keys and values, measured as they passed.
        peak_rows: most rows stored at once during the prefill, summed over layers.
        timing: measured times.
        finish: `"end"`, `"stop"` or `"length"`; `"cancelled"` when it was stopped before.
        notices: sentences a person should see, such as a budget that exceeds the prompt.
        query_aware: the question was visible when rows were chosen.
        attended: what each token of the answer attends to, where that was asked for; else None.
        rows_at_end: where rows were evicted during decoding, `[layer][head]`, the tokens whose rows were stored at the
            end, ascending; the answer's first token has the number `prompt_tokens`. Else None.
        precision: see `LanguageModel.precision`.
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
    rows_at_end: tuple[tuple[np.ndarray, ...], ...] | None = None
    attended: Attended | None = None
    precision: str = "float32"

    @property
    def kept_rows(self) -> list[list[int]]:
        """The prompt's retained rows in each layer and KV head, `[layer][head]`; without memory rows."""
        return self.retention.kept_rows.tolist()

    @property
    def retention_at_end(self) -> RetentionMap:
        """What was left of the prompt at the end; the scores are those of the prefill."""
        if self.rows_at_end is None:
            return self.retention
        kept = tuple(tuple(rows[rows < self.prompt_tokens] for rows in layer) for layer in self.rows_at_end)
        return replace(self.retention, kept=kept)

    @property
    def lost_share(self) -> float | None:
        """The share of this answer's tokens in the document that no head keeps; see `RetentionMap.lost_everywhere`."""
        return self.retention.lost_everywhere(self.text).share

    def to_dict(self) -> dict[str, Any]:
        """What the command line prints as JSON."""
        return {
            "model": self.model,
            "precision": self.precision,
            "method": self.method,
            "budget": self.budget,
            "query_aware": self.query_aware,
            "prompt_tokens": self.prompt_tokens,
            "kept_rows": self.kept_rows,
            "memory_rows": self.retention.memory_rows,
            "kv_bytes": self.kv_bytes,
            "kv_bytes_at_end": self.kv_bytes_at_end,
            "full_kv_bytes": self.full_kv_bytes,
            "peak_rows": self.peak_rows,
            "answer": self.text,
            "lost_share": self.lost_share,
            "sources": None
            if self.attended is None
            else [{**asdict(each), "share": round(each.share, 4)} for each in self.attended.sources()],
            "finish": self.finish,
            "ttft_s": round(self.timing.ttft_s, 4),
            "prefill_s": round(self.timing.prefill_s, 4),
            "decode_tokens_per_s": round(self.timing.decode_tokens_per_s, 3),
            "notices": list(self.notices),
        }


@dataclass(eq=False)
class Reading(Prefill):
    """A prompt that has been read once, for several methods.

    Attributes:
        writers: one per method, in the order of the request; each writes its own answer.
        prompt: the prompt.
        logits: (1, V) for the first token.
        full_kv_bytes, peak_rows: see `Answer`.
        prefill_s: seconds from the call until the first token could be chosen, without any second pass.
        notices: sentences a person should see.
    """

    __repr__ = brief

    writers: list[Writer] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.writers = [Writer(self, retained) for retained in self.retained]

    @classmethod
    def of(cls, outcome: Prefill) -> Reading:
        """What a prefill with a prompt has found, ready for answers."""
        return cls(**vars(outcome))

    @property
    def prompt(self) -> Prompt:
        assert self.request.prompt is not None
        return self.request.prompt

    @property
    def notices(self) -> tuple[str, ...]:
        return self.request.notices


class Writer:
    """One method's answer while it is being written; iterate it for steps, then take `answer()`.

    Attributes:
        reading: the prompt.
        retained: its rows that the method kept, and from here on those of the answer.
        kv_bytes: see `Answer`.
        steps: those that are written.
    """

    def __init__(self, reading: Reading, retained: Retained) -> None:
        self.reading, self.retained = reading, retained
        self.kv_bytes = retained.cache.kv_bytes
        self.steps: list[Step] = []
        request, method = reading.request, retained.plan.method
        self._eviction: DecodingEviction | None = None
        self._recorder: Recorder | None = None
        self._static: StaticStep | None = None
        if evicts_while_decoding(method, request.decoding):
            self._eviction = DecodingEviction(
                request.lm,
                retained,
                request.decoding_budget,
                request.decoding.evict_every or 0,
                request.soft_tokens,
            )
        elif request.attended is None and StaticStep.suits(request.lm, retained):
            self._static = StaticStep(request.lm, retained.cache)
        forward: Callable[..., torch.Tensor] = partial(next_logits, request.lm, retained.cache)
        if self._eviction is not None:
            forward = self._eviction.next_logits
        elif self._static is not None:
            forward = self._static
        if request.attended is not None:
            self._recorder = Recorder(request.lm, retained, reading.prompt.tokens, request.attended)
            forward = partial(self._recorder.next_logits, forward=forward)
        self._decode = decode(request.lm, retained.cache, reading.logits, request.decoding, forward)

    def __repr__(self) -> str:
        return f"<Writer of {self.name}, {len(self.steps)} tokens written>"

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.retained.plan.method.name

    def __iter__(self) -> Iterator[Step]:
        while True:
            stored = self.retained.cache.layers[0].keys
            self.reading.request.lm.check_cast(stored, "The prompt", "ask again")
            step = next(self._decode, None)
            if step is None:
                return
            self.steps.append(step)
            yield step

    @cached_property
    def retention(self) -> RetentionMap:
        """What was kept; known before the first token is written."""
        request = self.reading.request
        return retention_map(request.lm, self.reading.prompt, self.retained, query_aware=request.query_aware)

    @property
    def timing(self) -> Timing:
        """Times of the answer so far."""
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
        """The answer so far."""
        if self._static is not None:
            self._static.store()
        text = "".join(step.text for step in self.steps)
        answer = self.answer_of(text, self.steps[-1].finish if self.steps else None, self.timing)
        stored = None if self._eviction is None else _arrays(self._eviction.stored_tokens())
        return replace(
            answer,
            kv_bytes_at_end=self.retained.cache.kv_bytes,
            rows_at_end=stored,
            attended=self.attended_since(0, apart=True),
        )

    def attended_since(self, first: int, apart: bool = False) -> Attended | None:
        """What the tokens from this one on attend to, of those that are written; None where nothing is recorded.

        Args:
            apart: with each layer and head, where these are recorded.
        """
        counted = self.reading.request.attended
        if counted is None or self._recorder is None:
            return None
        assert self.reading.attended is not None
        vectors = [self.reading.attended, *self._recorder.vectors][first : len(self.steps)]
        if not vectors:
            return None
        texts, heads = [step.text for step in self.steps], (counted.layer, counted.head)
        own = parts_apart(self.reading.request.lm, vectors) if apart and counted.apart else ()
        return Attended.of_steps(self.retention, texts, as_array(vectors), *heads, *own)

    def answer_of(self, text: str, finish: str | None, timing: Timing) -> Answer:
        """An answer that was written elsewhere, from the rows that were kept here."""
        reading, request = self.reading, self.reading.request
        return Answer(
            text=text,
            method=self.name,
            model=request.lm.name,
            budget=self.retained.plan.budget,
            prompt_tokens=reading.prompt.tokens,
            retention=self.retention,
            kv_bytes=self.kv_bytes,
            kv_bytes_at_end=None,
            full_kv_bytes=reading.full_kv_bytes,
            peak_rows=reading.peak_rows,
            timing=timing,
            finish=finish or "cancelled",
            notices=request.notices,
            query_aware=request.query_aware,
            precision=request.lm.precision,
        )


def generate_batch(readings: Sequence[Reading]) -> list[Answer]:
    """The first writer's answer of each reading; all are greedy and written side by side.

    Their rows are used up: no writer can write again.
    """
    if not readings:
        return []
    writers = [reading.writers[0] for reading in readings]
    for writer in writers:
        _ = writer.retention  # while there are rows
    pending = [
        PendingAnswer(each.retained.cache, each.reading.logits, each.reading.request.decoding) for each in writers
    ]
    answers = []
    together = decode_together(readings[0].request.lm, pending, move=True)
    for writer, written in zip(writers, together, strict=True):
        prefill_s, later = writer.reading.prefill_s, len(written.tokens) - 1
        timing = Timing(prefill_s, prefill_s, later / written.seconds if later else 0.0)
        answers.append(writer.answer_of(written.text, written.finish, timing))
    return answers


def _arrays(tokens: list[list[torch.Tensor]]) -> tuple[tuple[np.ndarray, ...], ...]:
    return tuple(tuple(rows.numpy() for rows in layer) for layer in tokens)
