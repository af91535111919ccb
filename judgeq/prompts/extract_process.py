"""Takes the text out of a file, as a program of its own with limits on memory and time.

Started with a kind (`pdf`, `html`, `mhtml` or `text`) and limits, `main` reads a file from standard input and writes
one JSON object: `{"text": …, "notices": […]}`, or `{"problem": …}`, with messages that continue after the file's name.
Hostile files are read here, with nothing else of judgeq around them: if one ends this process, nothing else is lost.
"""

from __future__ import annotations

import contextlib
import json
import sys

from judgeq.prompts.extract_html import html_text, mhtml_text
from judgeq.prompts.extract_pdf import pdf_text
from judgeq.prompts.extract_text import Refused, plain_text, too_much_text

READERS = {"pdf": pdf_text, "html": html_text, "mhtml": mhtml_text, "text": plain_text}

NESTING = 20_000
"""Calls on top of each other: a page may be some thousand elements deep."""


def main(kind: str, given: str) -> None:
    """Read, extract, report; limits are given as JSON."""
    limits = json.loads(given)
    confine(limits["memory"], limits["seconds"])
    sys.setrecursionlimit(NESTING)
    notices: list[str] = []
    try:
        text = READERS[kind](sys.stdin.buffer.read(), limits, notices.append)
        if len(text) > limits["characters"]:
            raise too_much_text(limits)
        answer = {"text": text, "notices": notices}
    except Refused as refused:
        answer = {"problem": str(refused)}
    except (MemoryError, RecursionError):
        answer = {"problem": "is too large or too deeply nested: save it as plain text, then try again"}
    sys.stdout.write(json.dumps(answer))


def confine(memory: int, seconds: int) -> None:
    """Limit this process to so many bytes of address space and seconds of work, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the parent process ends it after a while
        return
    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # macOS refuses some
            resource.setrlimit(limit, (most, most))
