"""Output on a terminal of any encoding: a character that it cannot write is written as `\\u2192`.

Windows uses code pages for every redirect, many containers use ASCII.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
    """Write text to a stream, standard error by default; nothing where a program has none."""
    stream = sys.stderr if stream is None else stream
    if stream is not None:
        stream.write(sayable(text, stream))
        stream.flush()


def sayable(text: str, stream: TextIO | None) -> str:
    """The text, with an escape for each character that the stream cannot write."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def takes_everything(stream: TextIO | None) -> bool:
    """Whether every character can be written to the stream as it is."""
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf")


def never_fail_for_a_character() -> None:
    """Make a program's standard output and error escape what they cannot write, for every library that prints."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def forget_output() -> None:
    """Drop what can no longer be written, so that the interpreter does not try it again, and complain, at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream and stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
