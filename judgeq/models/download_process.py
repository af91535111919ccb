"""Runs a download in a subprocess, reports progress, and stops it when nothing arrives.

A process, because a thread that waits for a server cannot be stopped and would delay the exit of this program. Knows
nothing of pip or the Hub.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

NOTICE_SECONDS = 5.0
"""Seconds between progress messages, whether or not something arrives."""
SILENCE_SECONDS = 20.0
"""A program without a sign of life for so long is stopped; failing with pip, then the Hub, takes under a minute."""
ANSWER_SECONDS = 5.0
"""How long one small request may wait for a server."""
LOOK_SECONDS = 0.2
BUSY_SECONDS = 0.5
"""This much CPU time is a sign of life too: unpacking, or starting on a busy machine."""


class Silence(Exception):
    """A program was stopped because nothing arrived."""


@dataclass(frozen=True)
class Ended:
    """The output of a program that has ended.

    Attributes:
        output: what it wrote to standard output, every line of which was a sign of life.
        errors: what it wrote to standard error.
    """

    output: str
    errors: str


def run_watched(
    command: Sequence[str],
    folder: Path,
    notice: Callable[[bool, str], None],
    *,
    text: str = "",
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Runs a program to its end, regardless of its exit code.

    Args:
        folder: where files grow while something arrives, in any process.
        notice: called now and then while it takes long: were there signs of life, and the last line of output.
        text: for its standard input.

    Raises:
        Silence: for `SILENCE_SECONDS` there was no output, no file grew and nothing was computed.
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    output: list[str] = []
    errors: list[str] = []
    readers = [
        threading.Thread(target=_read, args=pair, daemon=True)
        for pair in ((process.stdout, output), (process.stderr, errors))
    ]
    try:
        for reader in readers:
            reader.start()
        with contextlib.suppress(BrokenPipeError), process.stdin:
            process.stdin.write(text)
        _wait(process, lambda: (len(output), _bytes_in(folder), _busy(process.pid)), output, notice)
    finally:
        process.kill()
        process.wait()
        for reader in readers:
            reader.join()
    return Ended("".join(output), "".join(errors))


def _wait(
    process: subprocess.Popen[str],
    signs: Callable[[], object],
    output: list[str],
    notice: Callable[[bool, str], None],
) -> None:
    seen, alive = signs(), time.monotonic()
    said = alive
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_SECONDS)
            return
        now, look = time.monotonic(), signs()
        if look != seen:
            seen, alive = look, now
        if now - said >= NOTICE_SECONDS:
            said = now
            notice(now - alive < NOTICE_SECONDS, output[-1] if output else "")
        if now - alive >= SILENCE_SECONDS:
            raise Silence(f"nothing arrived for {SILENCE_SECONDS:.0f} seconds")


def _read(pipe: IO[str], lines: list[str]) -> None:
    with pipe:
        lines.extend(pipe)


def _bytes_in(folder: Path) -> int:
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):  # deleted since it was listed
                total += (Path(where) / name).lstat().st_size
    return total


def _busy(pid: int) -> int:
    """Processor time so far, in steps of `BUSY_SECONDS`."""
    import psutil

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:  # it has just ended
        return -1
    return int((times.user + times.system) / BUSY_SECONDS)
