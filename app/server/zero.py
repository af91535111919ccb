"""Hugging Face's ZeroGPU: a GPU that is lent for the length of one call.

A call runs in a process of its own that ends soon after. So one call does all of a run's work and reports CPU data; the
document's rows are lost with the process, and the next question reads the document again.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing, suppress
from typing import Any

from app.server.calibrate_run import CalibrationTask
from app.server.host import ModelHost
from app.server.run import Run, said_of
from app.server.sweep_run import SweepTask
from app.server.task import Task
from judgeq.errors import JudgeqError
from judgeq.methods import METHODS

LEAST_S, MOST_S = 15, 120
"""Seconds: the least that is requested, and the most that a visitor without a subscription can get."""

REPORT_EVERY_S = 0.1

# Estimates for half an H200, on the safe side; nothing here was measured there.
BYTES_MOVED = 4e9  # a second, of weights from the disk to the GPU
PRODUCTS_READ = 5e13  # a second, in prefill
BYTES_READ = 1e12  # a second, where one token is written
STEP_S = 0.02  # what a token costs however small the model is
MARGIN = 1.5
STEPS_A_POINT = 4
"""A point of a sweep is one pass over the answer, about as long as so many tokens."""


def lend(host: ModelHost, refusal: type[Exception]) -> None:
    """Load the host's model here and now, and let its runs work on GPUs that are lent.

    Has to be called in the main thread, before the page is launched: what is on `cuda` then is there in every call.
    Outside a Space on ZeroGPU the work is done in this process, with the same results.

    Args:
        refusal: the exception that `spaces` raises when it lends no GPU, with a `message`: Gradio's error.

    Raises:
        JudgeqError: the model cannot be loaded.
    """
    import spaces  # a Space on ZeroGPU has it

    lm = host.load_here()
    with suppress(JudgeqError):  # reported when a method needs them
        host.soft_tokens(tuple(METHODS))
    parameters = sum(each.numel() * each.element_size() for each in lm.model.parameters()) // lm.dtype.itemsize

    def seconds(kind: type[Run], task: Task) -> int:
        tokens = min(host.count_all(task.document, task.question), lm.geometry.max_positions)
        return duration(task, tokens, parameters)

    def work(kind: type[Run], task: Task) -> Generator[dict[str, Any] | JudgeqError, None, None]:
        run, reported, known = kind(task, host), 0.0, False
        try:
            for _ in run.answering(lm):
                if not known or time.monotonic() - reported > REPORT_EVERY_S:
                    yield run.report(maps=not known)
                    reported, known = time.monotonic(), True
            yield run.report(maps=True)
        except Exception as error:  # noqa: BLE001 - `spaces` would print it, with what it quotes
            yield said_of(error)

    on_gpu = spaces.GPU(work, duration=seconds)

    def elsewhere(kind: type[Run], task: Task) -> Generator[dict[str, Any], None, None]:
        try:
            with closing(on_gpu(kind, task)) as news:
                for reported in news:
                    if isinstance(reported, JudgeqError):
                        raise reported
                    yield reported
        except refusal as error:  # no GPU is free, or the visitor's time is used up
            said = str(getattr(error, "message", error)).rstrip(".")
            raise JudgeqError(f"ZeroGPU says: {said}. Try again later") from None

    host.elsewhere = elsewhere


def duration(task: Task, tokens: int, parameters: int) -> int:
    """Seconds of GPU to ask for, for a prompt of so many tokens and a model of so many parameters in 16 bits."""
    looks = 1 + sum(METHODS[name].needs_response for name in set(task.methods))
    steps = task.max_new_tokens * (1 if isinstance(task, SweepTask) else len(task.methods))
    if isinstance(task, SweepTask):
        steps += STEPS_A_POINT * len(task.budgets) * len(task.methods)
    if isinstance(task, CalibrationTask):
        steps *= len(task.questions)  # the answers of all budgets are written side by side
    weights = 2 * parameters
    needed = weights / BYTES_MOVED + looks * weights * tokens / PRODUCTS_READ + steps * (STEP_S + weights / BYTES_READ)
    return max(LEAST_S, min(MOST_S, round(MARGIN * needed)))
