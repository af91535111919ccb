"""The loaded model, and the queue of runs that use it. Knows nothing of Gradio."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import judgeq
from app.server.limits import Limits
from app.server.memory import MemoryLimit
from app.server.own_tokens import Shelf
from app.server.queue import Place, Turns
from judgeq.documents.document import Document
from judgeq.errors import JudgeqError, is_out_of_memory
from judgeq.models import DEFAULT_MODEL
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import build_prompt, count_prompt
from judgeq.soft_tokens.soft_tokens import SoftTokens, find_shipped

log = logging.getLogger(__name__)

MOST_ROW_BYTES = 1_500_000_000
"""Of documents whose rows are kept: four as long as the embedded model can read."""
MOST_RUN_BYTES = 1_000_000_000
"""Of texts and maps that pages show: ten methods on the longest document that the embedded model reads are 40 MB."""

Elsewhere = Callable[[type, Any], Generator[dict[str, Any], None, None]]


class HeldResult(Protocol):
    """Data that a page shows and that the host may evict."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    def evict(self) -> None:
        """Free them, unless it is running."""


class ModelHost:
    """One model for all visitors: loaded in the background, used by one run at a time.

    Attributes:
        name, quantization, dtype: what `judgeq.load` is given.
        first: name and soft tokens that the operator chose.
        shelf: soft tokens that visitors uploaded.
        progress: what loading is doing, `(line, share or None)`.
        error: why loading failed; the next `start` tries again.
        documents: those whose rows are kept between two questions.
        runs: those that pages show.
        limits: of one request.
        turns: who waits for the model.
        training: the last training that was started from the page.
        elsewhere: does the work of a kind of run on a task in another process and yields its progress, as `Run.report`;
            None = this process does it. See `app.server.zero`.
    """

    def __init__(
        self,
        name: str = DEFAULT_MODEL,
        tokens: str | Path | None = None,
        load: Callable[..., LanguageModel] = judgeq.load,
        limits: Limits = Limits(),
        quantization: str | None = None,
        dtype: str | None = None,
    ) -> None:
        self.name, self.tokens_name, self._load = name, tokens, load
        self.quantization, self.dtype = quantization, dtype
        self.elsewhere: Elsewhere | None = None
        self.training: Any = None
        self.shelf = Shelf()
        self.first = name, tokens
        self.progress: tuple[str, float | None] = (f"Loading {name}", None)
        self.error: JudgeqError | None = None
        self.documents = MemoryLimit(MOST_ROW_BYTES, lambda document: document.kv_bytes, Document.forget)
        self.runs: MemoryLimit[HeldResult] = MemoryLimit(
            MOST_RUN_BYTES, lambda run: run.nbytes, lambda run: run.evict(), spare_last=True
        )
        self.limits = limits
        self.turns = Turns(limits.waiting)
        self._lm: LanguageModel | None = None
        self._tokens: SoftTokens | None = None
        self._starting = threading.Lock()
        self._settled = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin loading, unless it is loaded or on its way."""
        with self._starting:
            if self._lm is None and (self._thread is None or self._settled.is_set()):
                self.error = None
                self._settled.clear()
                self._thread = threading.Thread(target=self._loading, name="judgeq-load", daemon=True)
                self._thread.start()

    def load_here(self) -> LanguageModel:
        """Load in this very thread, and wait for it.

        Raises:
            JudgeqError: it cannot be loaded.
        """
        with self._starting:
            if self._lm is None:
                self._loading()
        return self.model()

    @property
    def ready(self) -> LanguageModel | None:
        """The model if it is loaded, without waiting."""
        return self._lm

    def wait(self, seconds: float) -> bool:
        """Wait until loading has ended either way; False if it has not."""
        return self._settled.wait(seconds)

    def model(self, check: Callable[[], None] = lambda: None) -> LanguageModel:
        """The model, once it is loaded; `check` may raise to stop waiting.

        Raises:
            JudgeqError: it cannot be loaded.
        """
        self.start()
        while not self.wait(0.1):
            check()
        if self._lm is None:
            raise self.error or JudgeqError("The model could not be loaded: try again")
        return self._lm

    def count_tokens(self, document: str, question: str, truncate: bool) -> int:
        """Length of the prompt; 0 while the model is being loaded or there is nothing to count.

        Raises:
            InputError: more than the model, or this server, can read.
        """
        self.limits.check_texts(document, question)
        if self._lm is None or not document.strip():
            return 0
        return build_prompt(self._lm, document, question.strip() or "?", truncate=truncate).tokens

    def count_all(self, document: str, question: str) -> int:
        """As `count_tokens`, however many tokens the model can read."""
        self.limits.check_texts(document, question)
        if self._lm is None or not document.strip():
            return 0
        return count_prompt(self._lm, document, question.strip() or "?")

    def kept_bytes(self, tokens: int, rows: int) -> int:
        """Bytes of keys and values of a prompt of `tokens` tokens with `rows` rows per KV head."""
        lm = self.model()
        sizes = lm.geometry
        return sizes.kept_rows(tokens, rows) * sizes.row_bytes(lm.dtype.itemsize)

    def soft_tokens(self, methods: tuple[str, ...]) -> SoftTokens | None:
        """The soft tokens for `methods`, read from the disk once; None if no method asks for any."""
        if all(not judgeq.METHODS[name].needs_soft_tokens for name in methods if name in judgeq.METHODS):
            return None
        if self._tokens is None:
            self._tokens = SoftTokens.for_model(self.model(), self.tokens_name)
        return self._tokens

    def use_tokens(self, folder: Path) -> None:
        """Let Judge Q score with other soft tokens from now on."""
        self.tokens_name, self._tokens = folder, None

    @property
    def lacks_soft_tokens(self) -> bool:
        """Whether the model is loaded and no soft tokens are known for it: none were named, and none are shipped."""
        return self._lm is not None and self.tokens_name is None and find_shipped(self._lm) is None

    def check(self) -> None:
        """Wait for the model that the operator chose, and for the soft tokens if he named some.

        Raises:
            JudgeqError: one of them cannot be loaded.
        """
        self.model()
        if self.tokens_name is not None:
            self.soft_tokens(tuple(judgeq.METHODS))

    @contextmanager
    def turn(self, check: Callable[[], None] = lambda: None, place: Place | None = None) -> Iterator[None]:
        """Use the model alone, from a place in the queue that was taken before or at its end.

        Args:
            check: may raise to give the place up.

        Raises:
            JudgeqError: the queue is full.
        """
        place = place or self.turns.join()
        try:
            while not place.wait(0.1):
                check()
            yield
        finally:
            place.leave()

    def switch(self, name: str, quantization: str | None, check: Callable[[], None] = lambda: None) -> None:
        """Load another model once the current one is idle, and put it in its place, with its own soft tokens.

        Both are in memory for a moment. Runs that wait meanwhile get the new one.

        Args:
            check: may raise to give up waiting for the turn.

        Raises:
            JudgeqError: it cannot be loaded; the old one is kept.
        """
        with self.turn(check):
            try:
                type_of = {"dtype": self.dtype} if self.dtype else {}
                lm = self._load(name, quantization=quantization, progress=self._on_progress, **type_of)
            except JudgeqError:
                raise
            except Exception as error:
                if is_out_of_memory(error):
                    raise JudgeqError(
                        f"The memory is not enough for {name}: choose fewer bits, or a smaller model"
                    ) from None
                log.exception("loading %s failed", name)
                raise JudgeqError(f"{name} could not be loaded ({type(error).__name__}): see the log") from None
            self.name, self.quantization = name, quantization
            self.tokens_name = self.first[1] if name == self.first[0] else None
            self._lm, self._tokens, self.error = lm, None, None
            self._settled.set()

    def _on_progress(self, line: str, share: float | None = None) -> None:
        self.progress = line, share

    def _loading(self) -> None:
        asked = {"quantization": self.quantization, "dtype": self.dtype}
        given = {name: value for name, value in asked.items() if value}
        try:
            self._lm = self._load(self.name, progress=self._on_progress, **given)
        except JudgeqError as error:
            self.error = error
        except Exception as error:
            log.exception("loading %s failed", self.name)
            self.error = JudgeqError(f"{self.name} could not be loaded ({type(error).__name__}): see the log")
        finally:
            self._settled.set()
