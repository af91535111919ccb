"""A document that was evicted before any question was known, and questions that are read after the rows it kept."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.cache.files import SavedCompressedDocument, load_cache, save_cache
from judgeq.cache.retained import RetainedCache
from judgeq.config import Decoding
from judgeq.errors import InputError
from judgeq.inference.answers import Answer, Reading
from judgeq.inference.attending import CountedHeads, Recorder, WhatAttends
from judgeq.inference.decode import Step, next_logits
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import prefill
from judgeq.inference.replay import prefill_with_replay
from judgeq.inference.request import Request, memory_notices
from judgeq.methods import METHODS, Method
from judgeq.methods.selection import Kept
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.prompts.prompt import Prompt, build_prefix, build_prompt, dated, now
from judgeq.soft_tokens.tensors import SoftTokenTensors

QUERY_AGNOSTIC = (
    "The document was evicted before this question was known (query-agnostic): rows that "
    "were evicted then are missing from the answer."
)


@dataclass(frozen=True, eq=False)
class CompressedDocument:
    """A document that was evicted once, before any question was known: query-agnostic.

    Each question is read after the kept rows. It cannot bring back evicted ones; `Document` keeps all.

    Attributes:
        lm: the model.
        prefix: the chat template's head and the document.
        retained: the kept rows.
        full_kv_bytes: bytes of the document's complete rows, measured as they passed.
        today: the date that prompts name, where the chat template has one.
    """

    __repr__ = brief

    lm: LanguageModel
    prefix: Prompt
    retained: Retained
    full_kv_bytes: int
    today: date

    @property
    def kv_bytes(self) -> int:
        """Bytes of the kept rows, measured from the tensors."""
        return self.retained.cache.kv_bytes

    def read_for(
        self,
        question: str,
        *,
        answer_prefix: str = "",
        decoding: Decoding = Decoding(),
        attended: WhatAttends = False,
    ) -> Reading:
        """Read a question; the reading has one writer. Arguments as in `judgeq.read`.

        The first token of an answer is chosen after the question, and attends to kept rows alone, too.

        Raises:
            InputError: bad input, eviction during decoding, or a question that changes how the document's end is split
                into tokens.
        """
        if decoding.evict_every:
            raise InputError(
                "The rows of a document that was evicted before the question cannot be evicted again while an answer "
                "is written: leave Decoding.evict_every out, or ask the Document itself"
            )
        started, lm, first = time.perf_counter(), self.lm, self.prefix.tokens
        lm.check_cast(self.retained.cache.layers[0].keys, "The document", "evict it anew with Document.compress")
        with dated(self.today):
            prompt = build_prompt(
                lm,
                self.text,
                question,
                answer_prefix=answer_prefix,
                reserve=decoding.max_new_tokens,
                is_read=True,
            )
        if not torch.equal(prompt.input_ids[:, :first], self.prefix.input_ids):
            raise InputError(
                "The question changes how the end of the document is split into tokens: begin it with another word"
            )
        cache, counted = self.retained.cache.fork(), CountedHeads.asked(lm, attended)
        kept = [_with_later(rows, first, prompt.tokens) for rows in self.retained.kept]
        scores = [_unscored(score, prompt.tokens - first) for score in self.retained.scores]
        retained = replace(self.retained, cache=cache, kept=kept, scores=scores)
        logits, paid = _read(lm, prompt.input_ids[:, first:], retained, prompt.tokens, counted)
        row_bytes = self.full_kv_bytes // lm.geometry.complete_rows(first)
        request = Request(
            lm,
            prompt.input_ids,
            [self.retained.plan],
            decoding,
            prompt=prompt,
            notices=(QUERY_AGNOSTIC, *memory_notices([self.retained.plan], first)),
            query_aware=False,
            attended=counted,
            started=started,
        )
        return Reading(
            request,
            logits.float(),
            [retained],
            full_kv_bytes=row_bytes * lm.geometry.complete_rows(prompt.tokens),
            peak_rows=cache.rows,
            finished=time.perf_counter(),
            attended=paid,
        )

    def stream(self, question: str, **options: Any) -> Generator[Step, None, Answer]:
        """Answer token by token; the generator returns the `Answer`. Options as in `read_for`."""
        (writer,) = self.read_for(question, **options).writers
        yield from writer
        return writer.answer()

    def ask(self, question: str, **options: Any) -> Answer:
        """Answer one question. Options as in `read_for`."""
        (writer,) = self.read_for(question, **options).writers
        return writer.finish()

    def save(self, path: str | Path) -> Path:
        """Write the kept rows into a folder, for `load`.

        Raises:
            InputError: the folder cannot be written, or the method is not registered.
        """
        left, name = self.retained, self.retained.plan.method.name
        if METHODS.get(name) is not type(left.plan.method):
            raise InputError(
                f"The method {name!r} is not registered, so nothing could say later who chose these rows: add its "
                "class to judgeq.METHODS first"
            )
        header = SavedCompressedDocument.of(
            self.lm,
            self.text,
            self.today,
            method=name,
            budget=left.plan.budget,
            bits=left.cache.bits,
            memory=left.memory,
            full_kv_bytes=self.full_kv_bytes,
        )
        return save_cache(path, header, self.prefix.input_ids, left.cache, left.kept, left.scores)

    @classmethod
    def load(cls, lm: LanguageModel, path: str | Path) -> CompressedDocument:
        """A document that `save` wrote, ready for questions.

        Raises:
            InputError: nothing there, not intact, or read by another model.
        """
        saved = SavedCompressedDocument.read(path)
        if saved.method not in METHODS:
            raise InputError(
                f"The saved document was evicted by {saved.method!r}, which is not registered here: add its class to "
                "judgeq.METHODS first"
            )
        today = saved.today or now()
        with dated(today):
            prefix = build_prefix(lm, saved.text)
        method = METHODS[saved.method]()
        method = replace(method, selection=replace(method.selection, bits=saved.bits))
        cache = RetainedCache(lm.model.config, saved.bits)
        retained = Retained(Plan(method, saved.budget, memory=saved.memory), cache, memory=saved.memory)
        retained.kept, retained.scores = load_cache(path, saved, lm, prefix.input_ids, retained.cache)
        return cls(lm, prefix, retained, saved.full_kv_bytes, today)

    @property
    def text(self) -> str:
        """The document, as the model has read it."""
        return self.prefix.text[slice(*self.prefix.document)]


def _read(
    lm: LanguageModel, ids: Tensor, retained: Retained, tokens: int, counted: CountedHeads | None
) -> tuple[Tensor, Tensor | None]:
    """Logits (1, V) after a question, ids (1, n), and what its last token attends to, see `Recorder`.

    Args:
        tokens: of the prompt.
        counted: whose attention is recorded, in a pass over that token alone; None = nothing is.
    """
    if counted is None:
        return _pass(lm, ids, retained.cache), None
    if ids.shape[1] > 1:
        _pass(lm, ids[:, :-1], retained.cache)
    recorder = Recorder(lm, retained, tokens, counted)
    logits = recorder.next_logits(int(ids[0, -1]), partial(next_logits, lm, retained.cache))
    return logits, recorder.vectors[0]


@torch.inference_mode()
def _pass(lm: LanguageModel, ids: Tensor, cache: RetainedCache) -> Tensor:
    """(1, V) after these tokens, (1, n)."""
    return lm.model(input_ids=ids.to(lm.device), cache=cache, use_cache=True, logits_to_keep=1).logits[:, -1]


def check_without_question(methods: Iterable[Method]) -> None:
    """Refuse methods that need an answer first, with an `InputError`: there is no question yet."""
    for method in methods:
        if method.needs_response:
            raise InputError(
                f"The method {method.name!r} scores with an answer and there is no question yet: choose another, such "
                "as judgeq"
            )


def compress(
    lm: LanguageModel,
    document: Prompt,
    plans: Sequence[Plan],
    soft_tokens: SoftTokenTensors | None = None,
    **passes: Any,
) -> list[CompressedDocument]:
    """Evict a document by each plan, before any question: one pass for all, and a replay for each method that has one.

    Args:
        document: see `prompts.prompt.build_prefix`.
        soft_tokens: the trained ones, needed as soon as a method scores with them.
        passes: `prefix`, `chunk` and `on_layer` of `prefill`.
    """
    together: dict[Method | None, list[int]] = {}
    for at, plan in enumerate(plans):
        together.setdefault(plan.method if plan.method.replays else None, []).append(at)
    found: dict[int, CompressedDocument] = {}
    for method, places in together.items():
        own = [plans[at] for at in places]
        if method is None:
            outcome = prefill(lm, document.input_ids, own, soft_tokens=soft_tokens, **passes)
        else:
            outcome = prefill_with_replay(lm, document, own, **passes)
        for at, retained in zip(places, outcome.retained, strict=True):
            found[at] = CompressedDocument(lm, document, retained, outcome.full_kv_bytes, now())
    return [found[at] for at in range(len(plans))]


def _with_later(kept: Kept | None, first: int, tokens: int) -> Kept | None:
    """Kept rows, and all rows from `first` on."""
    if kept is None:
        return None
    later = torch.arange(first, tokens, device=kept[0].device)
    if isinstance(kept, tuple):
        return tuple(torch.cat([rows, later]) for rows in kept)
    return torch.cat([kept, later.expand(*kept.shape[:2], -1)], dim=-1)


def _unscored(scores: Tensor | None, later: int) -> Tensor | None:
    """Scores, with NaN for `later` tokens after them."""
    return None if scores is None else F.pad(scores, (0, later), value=torch.nan)
