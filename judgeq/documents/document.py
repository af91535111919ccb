"""A document that is read once for many questions, with each of them in view when rows are chosen."""

from __future__ import annotations

import threading
from collections.abc import Generator
from datetime import date
from pathlib import Path
from typing import Any

import torch

from judgeq.cache.files import SavedDocument, load_cache, save_cache
from judgeq.cache.prefix import LayerCallback, PrefixCache, Progress, pass_sizes
from judgeq.config import AUTO, DEFAULT_BUDGET, Budget, budget_rows, check_budget, check_chunk
from judgeq.documents.compressed import CompressedDocument, check_without_question, compress
from judgeq.errors import InputError
from judgeq.inference.answers import Answer, Reading
from judgeq.inference.api import in_turn, run
from judgeq.inference.decode import Step
from judgeq.inference.plan import Plan
from judgeq.inference.request import Request, make_request, resolve_methods, resolve_soft_tokens
from judgeq.methods import Full, Method
from judgeq.models.language_model import LanguageModel
from judgeq.models.rope import check_chunks
from judgeq.prompts.prompt import build_prefix, dated, now
from judgeq.soft_tokens.soft_tokens import SoftTokens

REREAD_TOKENS = 64
"""Last tokens of a document that every question reads again: a method's window (32 queries in the papers) begins before
a short question, tokens may change where the two texts meet, and layers with a sliding window cannot be rewound."""
SPARE_ROWS = 256
"""Rows preallocated after a document, for questions and soft tokens; longer ones reallocate once."""


class Document:
    """A document whose complete rows are stored, so that each question costs its own tokens only.

    Every question is in view when rows are chosen for its answer, and the answers, kept rows and scores are those of
    `judgeq.ask` with the same arguments, up to rounding. The first question reads the document. A prompt that does not
    begin with it (`question_first`, or cut by `truncate`) is read from its beginning.

    Safe to use from several threads: they take turns in reading, and write answers side by side.

    Attributes:
        lm: the model.
        prefix: the beginning of every prompt: the chat template's head and the document.
        chunk: most tokens of a pass; None reads the document in one.
        today: the date that prompts name, where the chat template has one.
    """

    def __init__(self, lm: LanguageModel, text: str, *, chunk: int | None = None, today: date | None = None) -> None:
        """Reads nothing yet.

        Args:
            today: see above; the time of the clock by default.

        Raises:
            InputError: an empty text, something else than a text or a date, or a chunk without a token.
        """
        self.lm, self.chunk = lm, check_chunk(chunk)
        with dated(today):
            self.today = now()
        with dated(self.today):
            self.prefix = build_prefix(lm, text)
        self._rows: PrefixCache | None = None
        self._lock = threading.RLock()

    @property
    def text(self) -> str:
        """The document, as the model reads it."""
        return self.prefix.text[slice(*self.prefix.document)]

    @property
    def tokens(self) -> int:
        """Tokens of the document and of the template before it."""
        return self.prefix.tokens

    @property
    def kv_bytes(self) -> int:
        """Bytes of the stored and preallocated rows, measured from the tensors; 0 before the first question."""
        return 0 if self._rows is None else self._rows.nbytes

    def read(self, *, on_layer: LayerCallback | None = None) -> Document:
        """Read the document now, if it has not been read; returns itself.

        Raises:
            InputError: longer than the model's positions.
        """
        with self._lock:
            if self._rows is None:
                self._read_rows(attention_sums=False, on_layer=on_layer)
        return self

    def forget(self) -> None:
        """Free the rows; the next question reads the document again."""
        with self._lock:
            self._rows = None

    def read_for(self, question: str, *, on_layer: LayerCallback | None = None, **options: Any) -> Reading:
        """Read a question and let each method keep its rows: `judgeq.read` with its options."""
        with self._lock, dated(self.today):
            request = make_request(self.lm, self.text, question, **{"chunk": self.chunk, **options})
            return self.run(request, on_layer=on_layer)

    def run(self, request: Request, *, on_layer: LayerCallback | None = None) -> Reading:
        """Read a request about this document, from its stored rows where the prompt begins with it."""
        with self._lock, dated(self.today):
            return run(request, prefix=self._prefix_for(request, on_layer), on_layer=on_layer)

    def stream(self, question: str, *, method: str | Method = AUTO, **options: Any) -> Generator[Step, None, Answer]:
        """Answer token by token, as `judgeq.stream` does."""
        (writer,) = self.read_for(question, methods=[method], **options).writers
        yield from writer
        return writer.answer()

    def ask(self, question: str, *, method: str | Method = AUTO, **options: Any) -> Answer:
        """Answer one question, as `judgeq.ask` does."""
        (writer,) = self.read_for(question, methods=[method], **options).writers
        return writer.finish()

    def compare(self, question: str, **options: Any) -> Generator[tuple[int, Step], None, list[Answer]]:
        """Answer with several methods in turn, as `judgeq.compare` does."""
        reading = self.read_for(question, **options)
        yield from in_turn(reading.writers)
        return [writer.answer() for writer in reading.writers]

    def compress(
        self,
        *,
        method: str | Method = AUTO,
        budget: Budget = DEFAULT_BUDGET,
        tokens: SoftTokens | str | Path | None = None,
        row_bits: int | None = None,
        on_layer: LayerCallback | None = None,
    ) -> CompressedDocument:
        """Evict once, before any question is known: query-agnostic.

        Soft tokens, or a method's window, directly follow the document. Those that are shipped for this were trained so
        (`train --question unknown`) and bring memory rows; of soft tokens that were trained after a question, memory
        rows are kept only where the method asks for them by number. Rows that are stored already are not read again,
        and kept until `forget`; without them the document is evicted layer by layer while it is read. Methods that
        replay (`kvzip`) store it completely meanwhile.

        Args:
            method, budget, row_bits: as in `judgeq.read`; a budget that is a share is one of the document's tokens.
            tokens: soft tokens, or where to find them; None takes those that are shipped for documents, see
                `SoftTokens.for_model`.

        Raises:
            InputError: bad input, or a method that needs an answer first.
        """
        budget = check_budget(budget)
        (chosen,) = resolve_methods(self.lm, [method], row_bits, tokens)
        check_without_question([chosen])
        self._check_positions()
        soft = resolve_soft_tokens(self.lm, [chosen], tokens, "unknown")
        rows = self.tokens if isinstance(chosen, Full) else budget_rows(budget, self.tokens)
        plan = Plan.without_question(chosen, rows, soft)
        with self._lock, dated(self.today):
            self._check_cast()
            passes: dict[str, Any] = {"prefix": self._rows, "chunk": self.chunk, "on_layer": on_layer}
            return compress(self.lm, self.prefix, [plan], soft.weights if soft else None, **passes)[0]

    def save(self, path: str | Path) -> Path:
        """Write the document's rows into a folder, for `load`; reads the document if that has not been done.

        Raises:
            InputError: the folder cannot be written.
        """
        with self._lock:
            self._check_cast()
            self.read()
            assert self._rows is not None
            header = SavedDocument.of(self.lm, self.text, self.today)
            return save_cache(path, header, self._rows.ids, self._rows)

    @classmethod
    def load(cls, lm: LanguageModel, path: str | Path, *, chunk: int | None = None) -> Document:
        """A document that `save` wrote, ready for questions.

        Raises:
            InputError: nothing there, not intact, or read by another model.
        """
        saved = SavedDocument.read(path)
        document = cls(lm, saved.text, chunk=chunk, today=saved.today)
        rows = PrefixCache(lm.model.config, expected=document.tokens + SPARE_ROWS)
        load_cache(path, saved, lm, document.prefix.input_ids, rows)
        document._rows = rows
        return document

    def _prefix_for(self, request: Request, on_layer: LayerCallback | None) -> PrefixCache | None:
        """The document's rows, which are read if the prompt begins with it."""
        self._check_cast()
        ids = self.prefix.input_ids[:, :-REREAD_TOKENS]
        if not torch.equal(request.input_ids[:, : ids.shape[1]], ids):
            return self._rows
        need_sums = any(_needs_all_queries(plan.method) for plan in request.plans)
        if self._rows is None or (need_sums and not self._rows.has_attention_sums):
            self._read_rows(need_sums, on_layer)
        assert self._rows is not None
        self._rows.reserve(request.input_ids.shape[1] + request.appended_tokens)
        return self._rows

    def _read_rows(self, attention_sums: bool, on_layer: LayerCallback | None) -> None:
        """Read all but the last tokens. Attention sums need all queries, so that they take a second reading."""
        self._check_positions()
        self._rows = None
        rows = PrefixCache(self.lm.model.config, expected=self.tokens + SPARE_ROWS)
        ids = self.prefix.input_ids[:, :-REREAD_TOKENS]
        sizes = pass_sizes(ids.shape[1], self.chunk, 1) if ids.shape[1] else [0]
        check_chunks(self.lm.model, self.lm.name, sizes[0], ids.shape[1])
        pieces = ids.split(sizes, dim=1) if ids.shape[1] else ()
        progress = Progress(on_layer, len(pieces) * self.lm.geometry.layers)
        rows.read(self.lm, pieces, progress, attention_sums=attention_sums)
        self._rows = rows

    def _check_cast(self) -> None:
        if self._rows is not None and self._rows.seen:
            self.lm.check_cast(self._rows.layers[0].keys, "The document", "call forget() to have it read again")

    def _check_positions(self) -> None:
        limit = self.lm.geometry.max_positions
        if self.tokens > limit:
            raise InputError(
                f"The document has {self.tokens:,} tokens and {self.lm.name} reads at most {limit:,}: shorten it"
            )


def _needs_all_queries(method: Method) -> bool:
    """Of methods that score with a response only its writer uses the prompt's queries."""
    first = method.writer if method.needs_response else method
    return first is not None and first.queries_needed is None
