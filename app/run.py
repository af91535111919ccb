"""One run from the click to its answers, in a thread of its own.

A run is only looked at from outside, so that stopping it stops the work itself. Knows nothing of Gradio.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from app.session import ModelHost
from judgeq.answers import Answer, Reading
from judgeq.api import in_turn, read
from judgeq.config import Decoding
from judgeq.errors import JudgeqError
from judgeq.language_model import LanguageModel
from judgeq.pins import Span
from judgeq.retention import RetentionMap

log = logging.getLogger(__name__)

Phase = Literal["loading", "waiting", "reading", "writing", "done", "stopped", "failed"]


class Cancelled(Exception):
    """Raised inside a run to leave it; never reaches a person."""


@dataclass(frozen=True)
class Task:
    """What a person asks for; fields as in `judgeq.read`.

    Attributes:
        expected: what a right answer contains, where that is known.
    """

    document: str
    question: str
    methods: tuple[str, ...] = ("full", "judgeq", "snapkv")
    budget: int | float = 128
    question_first: bool = False
    truncate: bool = False
    max_new_tokens: int = 32
    expected: str = ""
    pinned: tuple[Span, ...] = ()
    dropped: tuple[Span, ...] = ()


@dataclass
class Lane:
    """One method's answer as far as it is written; costs are measured, None = not yet.

    Attributes:
        rows: rows per KV head when decoding starts, the mean over layers.
        kv_bytes: bytes of those rows, keys and values, all layers and heads.
    """

    method: str
    text: str = ""
    rows: float | None = None
    kv_bytes: int | None = None
    ttft_s: float | None = None
    tokens_per_s: float | None = None
    seconds: list[float] = field(default_factory=list)
    finish: str | None = None
    retention: RetentionMap | None = None
    answer: Answer | None = None


class Run:
    """One task at work in its own thread.

    Attributes:
        phase, layers, lanes: what can be seen while it works; `layers` is `(done, all)`.
        prompt_tokens, full_kv_bytes, prefill_s, notices: known once the prompt has been read. The reading itself, which
            holds all rows, is not kept.
        error: why it failed.
        finished: set at the end, however it came.
    """

    def __init__(self, task: Task, host: ModelHost) -> None:
        self.task, self.host = task, host
        self.phase: Phase = "loading"
        self.layers = (0, 0)
        self.lanes = [Lane(method) for method in task.methods]
        self.prompt_tokens: int | None = None
        self.full_kv_bytes: int | None = None
        self.prefill_s = 0.0
        self.notices: tuple[str, ...] = ()
        self.error: JudgeqError | None = None
        self.finished = threading.Event()
        self._cancel = threading.Event()
        self._started = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> Run:
        """Begin, once; a run that was stopped before it began stays stopped."""
        with self._started:
            if self._thread is None and not self.finished.is_set():
                self._thread = threading.Thread(target=self._work, name="judgeq-run", daemon=True)
                self._thread.start()
        return self

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
    def retention(self) -> dict[str, RetentionMap]:
        """The maps that exist so far, by method."""
        return {lane.method: lane.retention for lane in self.lanes if lane.retention is not None}

    def _check(self) -> None:
        if self._cancel.is_set():
            raise Cancelled

    def _on_layer(self, done: int, layers: int) -> None:
        self.layers = done, layers
        self._check()

    def _work(self) -> None:
        try:
            lm = self.host.model(self._check)
            self.phase = "waiting"
            with self.host.turn(self._check):
                self.phase = "reading"
                self._answer(lm)
            self.phase = "done"
        except Cancelled:
            self.phase = "stopped"
        except JudgeqError as error:
            self._fail(error)
        except (torch.OutOfMemoryError, MemoryError):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._fail(
                JudgeqError(
                    "The memory is not enough for this document: shorten it, or compare fewer methods"
                )
            )
        except Exception as error:
            log.exception("a run failed")
            self._fail(
                JudgeqError(f"Something broke ({type(error).__name__}): the log says where; try again")
            )
        finally:
            self.finished.set()

    def _fail(self, error: JudgeqError) -> None:
        self.error, self.phase = error, "failed"

    def _answer(self, lm: LanguageModel) -> None:
        task = self.task
        reading = read(
            lm,
            task.document,
            task.question,
            methods=task.methods,
            budget=task.budget,
            tokens=self.host.soft_tokens(task.methods),
            question_first=task.question_first,
            truncate=task.truncate,
            pinned=task.pinned,
            dropped=task.dropped,
            decoding=Decoding(max_new_tokens=task.max_new_tokens),
            on_layer=self._on_layer,
        )
        self._look_at(reading, lm.geometry.layers)
        self.phase = "writing"
        try:
            for index, step in in_turn(reading.writers):
                lane, timing = self.lanes[index], reading.writers[index].timing
                lane.text += step.text
                lane.seconds.append(step.seconds)
                lane.finish = step.finish
                lane.ttft_s, lane.tokens_per_s = timing.ttft_s, timing.decode_tokens_per_s or None
                self._check()
        finally:
            for lane, writer in zip(self.lanes, reading.writers, strict=True):
                lane.answer = writer.answer()
                lane.finish = lane.answer.finish

    def _look_at(self, reading: Reading, layers: int) -> None:
        self.prompt_tokens = reading.prompt.tokens
        self.full_kv_bytes = reading.full_kv_bytes
        self.prefill_s = reading.prefill_s
        self.notices = reading.notices
        for lane, writer in zip(self.lanes, reading.writers, strict=True):
            lane.rows = writer.retained.cache.rows / layers
            lane.kv_bytes = writer.kv_bytes
            lane.retention = writer.retention
            self._check()


def result(run: Run) -> list[dict[str, Any]]:
    """The answers of a finished run as plain values, one a method.

    Raises:
        JudgeqError: the run failed or was stopped.
    """
    if run.error is not None:
        raise run.error
    if run.phase != "done":
        raise JudgeqError("The run was stopped: ask again")
    return [lane.answer.to_dict() for lane in run.lanes if lane.answer is not None]
