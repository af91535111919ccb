"""One run from the click to its answers, in a thread of its own.

Other threads only read a run's state, so that stopping it stops the work itself. Knows nothing of Gradio.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch

from app import text
from app.server.host import ModelHost
from app.server.live import Live, lit_by_layer, what_to_record
from app.server.logs import log_quietly
from app.server.queue import Place
from app.server.task import Earlier, Lane, Lit, Task, note_lost
from judgeq.config import Decoding
from judgeq.documents.document import Document
from judgeq.errors import InputError, JudgeqError, is_out_of_memory
from judgeq.inference.answers import Reading
from judgeq.inference.api import in_turn, read
from judgeq.models.language_model import LanguageModel
from judgeq.retention import RetentionMap
from judgeq.retention.glow import Lights

log = logging.getLogger(__name__)

MOST_EARLIER = 20
"""Questions about one document that are remembered."""

TOKEN_BYTES = 128
"""Of a token's place in a text: two numbers in a pair."""

T = TypeVar("T", bound=Task)

Phase = Literal["loading", "waiting", "reading", "writing", "done", "stopped", "failed", "stored"]


class Cancelled(Exception):
    """Raised inside a run to stop it; never shown to a visitor."""


class Run(Generic[T]):
    """One task running in its own thread.

    Attributes:
        phase, layers, lanes: what can be seen while it works; `layers` is `(done, all)`.
        what: what is being read.
        again: the document was read before and its rows were still there.
        document: holds the document's rows for the next question; None where nothing is kept.
        earlier: the questions before this one, oldest first.
        prompt_tokens, full_kv_bytes, prefill_s, notices: known once the prompt has been read. The reading itself, which
            holds all rows, is not kept.
        computed: when and where a stored run was computed.
        quantization, began: of the model that answers; when it began to read.
        layer, head: which layer, and query head, alone lights words, None = all; `lit` is what it does, by method.
        error: why it failed.
        gone: its data was evicted to make room for others.
        finished: set at the end, also after an error.
    """

    REPORTED: ClassVar[tuple[str, ...]] = ("phase", "prompt_tokens", "full_kv_bytes", "prefill_s", "notices")
    """What work in another process reports, in addition to the lanes."""
    LESS: ClassVar[str] = "compare fewer methods"
    """What takes less time."""

    def __init__(self, task: T, host: ModelHost, previous: Run[T] | None = None, *, keep: bool = False) -> None:
        """`previous` asked about the same document or another one; `keep`: there may be a next question.

        Raises:
            InputError: a task beyond the host's limits.
        """
        host.limits.check(task)
        self.task, self.host = task, host
        self.keep = keep and host.elsewhere is None  # rows are lost when that process ends
        self.document: Document | None = None
        self.earlier: tuple[Earlier, ...] = ()
        if previous is not None and previous.task.document == task.document:
            self.document, self.earlier = previous.document, previous.so_far()
        self.again = False
        self.what: Literal["prompt", "document", "question"] = "prompt"
        self.phase: Phase = "loading"
        self.layers = (0, 0)
        self.lanes = [Lane(method) for method in task.methods]
        self.prompt_tokens: int | None = None
        self.full_kv_bytes: int | None = None
        self.prefill_s = 0.0
        self.notices: tuple[str, ...] = ()
        self.computed = ""
        self.quantization: str | None = None
        self.began: datetime | None = None
        self.layer: int | None = None
        self.head: int | None = None
        self.lit: dict[str, Lit] = {}
        self.error: JudgeqError | None = None
        self.gone = False
        self.finished = threading.Event()
        self._cancel = threading.Event()
        self._started = threading.Lock()
        self._thread: threading.Thread | None = None
        self._place: Place | None = None
        self._end = float("inf")

    def start(self) -> Run:
        """Take a place in the queue and begin, once; a run that was stopped before it began never starts.

        Raises:
            JudgeqError: the queue is full, or the run was evicted.
        """
        if self.gone:
            raise InputError(text.RUN_GONE)
        with self._started:
            if self._thread is None and not self.finished.is_set():
                self._place = self.host.turns.join()
                # in the context of the visitor's request: ZeroGPU needs to know who asks
                work = contextvars.copy_context().run
                self._thread = threading.Thread(target=work, args=(self._work,), name="judgeq-run", daemon=True)
                self._thread.start()
        return self

    def so_far(self) -> tuple[Earlier, ...]:
        """The questions that have been answered, each once, this one included if it was."""
        answers = tuple((lane.method, self.task.begun(lane.text)) for lane in self.lanes if lane.text)
        if not answers or self.phase == "stored":
            return self.earlier
        others = [asked for asked in self.earlier if asked.question != self.task.question]
        return (*others, Earlier(self.task.question, answers, self.prefill_s))[-MOST_EARLIER:]

    def look(self) -> Run:
        """This run, for a caller that shows its data.

        Raises:
            InputError: its data was evicted to make room for others.
        """
        if self.gone:
            raise InputError(text.RUN_GONE)
        self.host.runs.use(self)
        return self

    @property
    def nbytes(self) -> int:
        """Approximate size of its data; its document's rows are counted elsewhere, stored answers are shared."""
        if self.phase == "stored":
            return 0
        texts = sys.getsizeof(self.task.document) + (self.document.tokens * TOKEN_BYTES if self.document else 0)
        answers = (lane.answer for lane in self.lanes if lane.answer and lane.answer.attended)
        attended = sum(answer.attended.nbytes for answer in answers if answer.attended)
        return texts + attended + sum(_map_bytes(found) for found in self.retention.values())

    def evict(self) -> None:
        """Free everything but the answers' text; a run in progress is left unchanged."""
        if not self.busy:
            self.gone, self.document = True, None
            self.task = replace(self.task, document="", own_tokens=None)
            self.lit = {}
            for lane in self.lanes:
                lane.retention = lane.answer = None
                lane.steps = []

    @property
    def heads(self) -> int:
        """Query heads of a layer that can light words alone; 0 where they were not recorded."""
        attended = (lane.answer.attended for lane in self.lanes if lane.answer)
        return next((each.heads.heads for each in attended if each and each.heads), 0)

    def light(self, layer: int | None, head: int | None = None) -> None:
        """Show what this layer, or this query head of it, alone attends to; None = all of them."""
        self.layer, self.head = layer, head
        found = {} if layer is None else lit_by_layer(self.lanes, [layer], head)
        self.lit = {method: each[0] for method, each in found.items()}

    def close(self) -> None:
        """Stop the work and free the document, since the page was closed."""
        self.cancel()
        self.document = None

    def cancel(self) -> None:
        """Ask the work to stop, without waiting."""
        self._cancel.set()

    def stop(self, seconds: float = 10.0) -> None:
        """Ask the work to stop and wait until it has."""
        self.cancel()
        with self._started:
            if self._thread is None:
                self.phase = "stopped"
                self.finished.set()
        self.finished.wait(seconds)

    @property
    def busy(self) -> bool:
        """It was started and has not ended."""
        return self._thread is not None and not self.finished.is_set()

    @property
    def place(self) -> int:
        """How many are ahead of this run, including the one in progress."""
        return self._place.number if self._place else 0

    @property
    def retention(self) -> dict[str, RetentionMap]:
        """The maps that exist so far, by method."""
        return {lane.method: lane.retention for lane in self.lanes if lane.retention is not None}

    def _check(self) -> None:
        if self._cancel.is_set():
            raise Cancelled
        if time.monotonic() > self._end:
            raise self.host.limits.too_late(self.LESS)

    def _on_layer(self, done: int, layers: int) -> None:
        if done < self.layers[0] and self.what == "document":
            self.what = "question"
        self.layers = done, layers
        self._check()

    def _work(self) -> None:
        try:
            self.host.model(self._check)
            self.phase = "waiting"
            with self.host.turn(self._check, self._place):
                self._end = time.monotonic() + self.host.limits.seconds
                self.phase = "reading"
                self.quantization, self.began = self.host.quantization, datetime.now(UTC)
                self._at_work(self.host.model())  # another one may have come while this run waited
            self.phase = "done"
        except Cancelled:
            self.phase = "stopped"
        except Exception as error:  # noqa: BLE001 - logged there
            self.error, self.phase = said_of(error), "failed"
        finally:
            if self._place is not None:
                self._place.leave()
            self.finished.set()

    def _at_work(self, lm: LanguageModel) -> None:
        if self.host.elsewhere is None:
            with closing(self.answering(lm)) as work:
                for _ in work:
                    self._check()
        else:
            with closing(self.host.elsewhere(type(self), self.task)) as news:
                for reported in news:
                    self.update(reported)
                    self._check()

    def report(self, maps: bool) -> dict[str, Any]:
        """The progress of the work, as plain values for another process.

        Args:
            maps: with what is large: the maps and the answers.
        """
        lanes = [lane if maps else replace(lane, retention=None, answer=None) for lane in self.lanes]
        return {"lanes": lanes, **{name: getattr(self, name) for name in self.REPORTED}}

    def update(self, reported: dict[str, Any]) -> None:
        """Take over what another process gave with `report`; a map that is known already is not replaced."""
        values = dict(reported)
        for index, lane in enumerate(values.pop("lanes")):
            known = self.lanes[index].retention
            if known is not None:
                lane.retention = known
                if lane.answer is not None:
                    attended = lane.answer.attended and replace(lane.answer.attended, found=known)
                    lane.answer = replace(lane.answer, retention=known, attended=attended)
            self.lanes[index] = lane
        vars(self).update(values)

    def answering(self, lm: LanguageModel) -> Generator[None, None, None]:
        """The work itself, in the process that calls; yields after reading and after every token."""
        task = self.task
        reading = self._reader(lm)(
            task.question,
            methods=task.methods,
            budget=task.budget,
            tokens=task.own_tokens.tokens if task.own_tokens else self.host.soft_tokens(task.methods),
            question_first=task.question_first,
            answer_prefix=task.answer_prefix,
            truncate=task.truncate,
            pinned=task.pinned,
            dropped=task.dropped,
            decoding=Decoding(max_new_tokens=task.max_new_tokens),
            attended=what_to_record(lm.geometry, task.max_new_tokens, self._tokens(lm)),
            on_layer=self._on_layer,
        )
        self._record(reading, lm.geometry.layers)
        lights = Lights(reading.writers[0].retention)
        followed = [Live(lights, lane) for lane in self.lanes]
        self.phase = "writing"
        yield
        try:
            for index, step in in_turn(reading.writers):
                lane, timing = self.lanes[index], reading.writers[index].timing
                lane.text += step.text
                lane.seconds.append(step.seconds)
                lane.finish = step.finish
                lane.ttft_s, lane.tokens_per_s = timing.ttft_s, timing.decode_tokens_per_s or None
                followed[index].follow(reading.writers[index])
                yield
        finally:
            for lane, writer in zip(self.lanes, reading.writers, strict=True):
                lane.answer = writer.answer()
                lane.finish = lane.answer.finish
            for each in followed:
                each.finish()
            note_lost(self.lanes)

    def _tokens(self, lm: LanguageModel) -> int:
        """Of the prompt, at most."""
        return min(self.host.count_all(self.task.document, self.task.question), lm.geometry.max_positions)

    def _reader(self, lm: LanguageModel) -> Callable[..., Reading]:
        """Reads a question about the task's document; where the document is kept, its rows are too."""
        if not self.keep or self.task.question_first:
            return partial(read, lm, self.task.document)
        if self.document is None or self.document.lm is not lm:
            self.document = Document(lm, self.task.document)
        document = self.document
        self.again = document.kv_bytes > 0
        self.what = "question" if self.again else "document"

        def read_for(question: str, **options: Any) -> Reading:
            reading = document.read_for(question, **options)
            self.host.documents.use(document)
            return reading

        return read_for

    def _record(self, reading: Reading, layers: int) -> None:
        self.prompt_tokens = reading.prompt.tokens
        self.full_kv_bytes = reading.full_kv_bytes
        self.prefill_s = reading.prefill_s
        self.notices = reading.notices
        for lane, writer in zip(self.lanes, reading.writers, strict=True):
            lane.rows = writer.retained.cache.rows / layers
            lane.kv_bytes = writer.kv_bytes
            lane.retention = writer.retention
            self._check()


def _map_bytes(found: RetentionMap) -> int:
    rows = sum(head.nbytes for layer in found.kept for head in layer)
    scores = 0 if found.scores is None else found.scores.nbytes
    return rows + scores + sys.getsizeof(found.text) + TOKEN_BYTES * found.tokens


def said_of(error: Exception) -> JudgeqError:
    """The error that a visitor sees; an unexpected one is logged."""
    if isinstance(error, JudgeqError):
        return error
    if is_out_of_memory(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return JudgeqError("The memory is not enough for this document: shorten it, or compare fewer methods")
    log_quietly(log, "a run failed", error)
    return JudgeqError(f"Something broke ({type(error).__name__}): the log says where; try again")


def result(run: Run) -> list[dict[str, Any]]:
    """The answers of a finished run as plain values, one per method.

    Raises:
        JudgeqError: the run failed or was stopped.
    """
    if run.error is not None:
        raise run.error
    if run.phase != "done":
        raise JudgeqError("The run was stopped: ask again")
    return [lane.answer.to_dict() for lane in run.lanes if lane.answer is not None]
