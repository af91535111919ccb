"""The texts that lm-eval's RULER hides things in: essays, from a person's file, lm-eval's source, or Python's manual.

Knows nothing of questions or tokens.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from judgeq.data.passages import GAP, manual_texts
from judgeq.errors import DownloadError
from judgeq.evaluation.harness.library import CONNECT_SECONDS, fetched, hub_dataset, quiet, substituted
from judgeq.evaluation.harness.local_files import LocalFiles

ESSAYS = "baber/paul_graham_essays"
"""Where lm-eval has them from, on the Hub."""
MANUAL_NOTE = (
    "The haystack is Python's language reference instead of Paul Graham's essays, which could not be fetched"
)
SENTENCES_NOTE = (
    "Sentences are told apart by NLTK's rules alone, since its punkt_tab data could not be fetched: needles may stand "
    "at slightly other places"
)
PROSE = re.compile(r"[A-Z][^|<>{}=]{60,}\.")
"""A paragraph that is neither code nor a table nor grammar."""


def essay_words(files: LocalFiles, original: Callable[..., Any]) -> tuple[list[str], tuple[str, ...]]:
    """The words of the essays, and what a reader must know about them.

    Args:
        original: lm-eval's own `get_haystack`.

    Raises:
        InputError: a person's own file cannot be read.
    """
    own = files.essays()
    if own is not None:
        path, text = own
        return text.split(), (f"The haystack is {path} instead of Paul Graham's essays",)
    try:
        return hub_dataset(ESSAYS, ESSAYS, lambda: original(type_haystack="essay")), ()
    except DownloadError:
        return manual_prose().split(), (MANUAL_NOTE,)


@cache
def manual_prose() -> str:
    """The paragraphs of Python's language reference that are prose, each once, in a fixed order."""
    paragraphs = (" ".join(part.split()) for text in manual_texts() for part in GAP.split(text.body))
    return " ".join(dict.fromkeys(part for part in paragraphs if PROSE.fullmatch(part)))


@contextlib.contextmanager
def nltk_stays_offline() -> Iterator[None]:
    """Inside, NLTK downloads nothing: lm-eval would do so, without a time limit, when its generator is imported."""
    try:
        import nltk
    except ImportError:  # `definition` says what is missing
        yield
        return
    with substituted(vars(nltk), download=lambda *_, **__: False):
        yield


def sentence_splitter(
    original: Callable[[str], list[str]],
) -> tuple[Callable[[str], list[str]], tuple[str, ...]]:
    """NLTK's, with the data that it was trained on or, where that cannot be had, without; and a note about that."""
    import nltk
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    def load() -> None:
        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(CONNECT_SECONDS)
        try:
            if not nltk.download("punkt_tab", quiet=True, print_error_to=io.StringIO()):
                raise OSError("NLTK's server does not answer")
        finally:
            socket.setdefaulttimeout(before)

    try:
        with quiet():
            nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        try:
            fetched("punkt_tab", load)
        except DownloadError:
            return PunktSentenceTokenizer().tokenize, (SENTENCES_NOTE,)
    return original, ()
