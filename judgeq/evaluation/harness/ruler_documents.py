"""Documents of RULER from lm-eval's samplers: only as many as requested, the same on every run, without endless loops.

The samplers take a tokenizer, texts and a number. What has no argument, the depth of a needle, the splitter of
sentences and the download of questions, is replaced while they run.
"""

from __future__ import annotations

import contextlib
import io
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any
from unittest import mock

from judgeq.data.passages import GAP, manual_texts
from judgeq.errors import DownloadError, InputError
from judgeq.evaluation.harness.lm_eval_files import LocalFiles
from judgeq.evaluation.harness.lm_eval_tasks import (
    CONNECT_SECONDS,
    Definition,
    fetched,
    hub_dataset,
    quiet,
    seeded,
)
from judgeq.models.language_model import LanguageModel

MOST = 500
"""Questions that lm-eval makes of a task and a length."""
SHORTEST = 200
"""Tokens under which lm-eval's word lists are empty."""
MARGIN = 32
"""Tokens by which the same text with other random words may be longer."""
EXAMPLE_TOKENS = 500
"""Length of the solved example in lm-eval's `vt`."""
ESSAY_STEP = 500
"""Words of essays that lm-eval adds at a time; under the first of them it hides needles in next to nothing."""
FEWEST_WORDS, FINER_STEP = 100, 20
"""Where the first step has no room, essays of so many words at least, and of as many more as fit, by such a step."""
NEEDLES: dict[str, dict[str, Any]] = {
    "niah_single_1": {"type_haystack": "repeat"},
    "niah_single_2": {"type_haystack": "essay"},
    "niah_single_3": {"type_haystack": "essay", "type_needle_v": "uuids"},
    "niah_multikey_1": {"type_haystack": "essay", "num_needle_k": 4},
    "niah_multikey_2": {"type_haystack": "needle"},
    "niah_multikey_3": {"type_haystack": "needle", "type_needle_k": "uuids", "type_needle_v": "uuids"},
    "niah_multivalue": {"type_haystack": "essay", "num_needle_v": 4},
    "niah_multiquery": {"type_haystack": "essay", "num_needle_q": 4},
}
"""RULER's settings of lm-eval's sampler."""
ESSAY_TASKS = tuple(name for name, options in NEEDLES.items() if options["type_haystack"] == "essay")
QA_FILES = {"qa_squad": "squad.json", "qa_hotpot": "hotpotqa.json"}
ESSAYS = "baber/paul_graham_essays"
"""Where lm-eval has them from, on the Hub."""
MANUAL_NOTE = "The haystack is Python's language reference instead of Paul Graham's essays, which could not be fetched"
SENTENCES_NOTE = (
    "Sentences are split by NLTK's rules alone, since its punkt_tab data could not be downloaded: needles may be "
    "at slightly other places"
)
PROSE = re.compile(r"[A-Z][^|<>{}=]{60,}\.")
"""A paragraph that is neither code nor a table nor grammar."""

Doc = dict[str, Any]
Sampler = Callable[[int], list[Doc]]
"""From a number of tries to documents; fewer where some do not fit."""


def generate(
    lm: LanguageModel,
    task: Definition,
    length: int,
    count: int,
    *,
    seed: str,
    files: LocalFiles,
    depth: int | None = None,
) -> tuple[list[Doc], tuple[str, ...]]:
    """The first documents of a task, and what a reader of their results must know; raises what `ruler_tasks` does.

    Args:
        length: tokens of a prompt and its answer.
        depth: percent of a haystack before its needle; None is anywhere.
    """
    if length < SHORTEST:
        raise InputError(f"RULER has no prompts of {length:,} tokens: ask for at least {SHORTEST}")
    if not 1 <= count <= MOST:
        raise InputError(f"RULER has from 1 to {MOST} questions of a length, not {count:,}: ask for so many")
    from lm_eval.tasks.ruler import cwe_utils, qa_utils

    tokenizer = partial(lm.tokenizer, verbose=False)  # too long a text is reported by the runner
    essays: list[str] = []
    most, notes = MOST, tuple[str, ...]()
    replaced: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext
    if task.name in ESSAY_TASKS:
        essays, about_essays = _essay_words(files)
        split, about_sentences = _sentence_splitter()
        notes = *about_essays, *about_sentences
        replaced = partial(_needle_places, split, depth)
    if task.name in QA_FILES:
        questions, documents, notes = _questions(task.name, files)
        most = min(MOST, len(questions))
        sampler: Sampler = partial(qa_utils.generate_samples, tokenizer, documents, questions, length)
    else:
        sampler = _sampler(task.name, tokenizer, length, essays)
    with quiet(), seeded(seed, cwe_utils.RNG):
        too_short = length < _least(task, tokenizer, length, seed)

    def made(limit: int, sampler: Sampler = sampler) -> list[Doc]:
        with quiet(), seeded(seed, cwe_utils.RNG), replaced():
            try:
                return sampler(limit)
            except ValueError:  # lm-eval says so where nothing fits
                return []

    asked, docs, words = min(count, most), [], ESSAY_STEP
    while not too_short:
        docs = made(asked)
        if len(docs) >= count or asked == most:
            break
        asked = min(2 * asked, most)  # some did not fit and were left out
    while len(essays) >= ESSAY_STEP and words > FEWEST_WORDS and not _are_whole(task, docs[:count], words):
        words -= FINER_STEP
        docs = made(count, _sampler(task.name, tokenizer, length, essays[:words]))
    docs = docs[:count]
    if not _are_whole(task, docs, words) or (words < ESSAY_STEP and len(docs) < count):
        few = task.name in ESSAY_TASKS and len(essays) < ESSAY_STEP
        more = f", or give essays of at least {ESSAY_STEP} words" if few else ""
        what = f"RULER's {task.name} does not fit into {length:,} tokens"
        raise InputError(f"{what}: ask for longer prompts{more}")
    return docs, (*notes, *_fill_notes(task, length, count, docs))


def _sampler(name: str, tokenizer: Any, length: int, essays: list[str]) -> Sampler:
    """lm-eval's own sampler of a task that makes its documents up, or hides needles in essays."""
    from lm_eval.tasks.ruler import cwe_utils, fwe_utils, niah_utils, prepare_niah, vt_utils

    if name == "cwe":
        return partial(cwe_utils.sys_word_pair_random, max_seq_length=length, tokenizer=tokenizer)
    if name == "fwe":
        return partial(fwe_utils.sys_kwext, tokenizer, length)
    if name == "vt":

        def chains(limit: int) -> list[Doc]:
            make = partial(vt_utils.sys_vartrack_w_noise_random, tokenizer)
            (solved,) = make(1, max_seq_length=EXAMPLE_TOKENS, incremental=5)
            return make(limit, max_seq_length=length, icl_example=solved)

        return chains
    options = {"type_needle_k": "words", "type_needle_v": "numbers", **NEEDLES[name]}
    kind = options["type_haystack"]
    haystack = essays if kind == "essay" else prepare_niah.get_haystack(type_haystack=kind)

    def needles(limit: int) -> list[Doc]:
        return prepare_niah.generate_samples(
            haystack,
            tokenizer,
            max_seq_length=length,
            template=niah_utils.TEMPLATE,
            num_samples=limit,
            **options,
        )

    return needles


@contextlib.contextmanager
def _needle_places(split: Callable[[str], list[str]], depth: int | None) -> Iterator[None]:
    """Inside, needles are between these sentences, and only at this depth if there is one."""
    from lm_eval.tasks.ruler import prepare_niah

    depths = prepare_niah.DEPTHS if depth is None else [depth]
    with mock.patch.multiple(prepare_niah, sent_tokenize=split, DEPTHS=depths):
        yield


def _essay_words(files: LocalFiles) -> tuple[list[str], tuple[str, ...]]:
    """The words between which needles are hidden, and what a reader must know about them.

    Raises:
        InputError: a person's own file cannot be read.
    """
    from lm_eval.tasks.ruler import prepare_niah

    if (own := files.essays()) is not None:
        path, text = own
        return text.split(), (f"The haystack is {path} instead of Paul Graham's essays",)
    try:
        return hub_dataset(ESSAYS, ESSAYS, lambda: prepare_niah.get_haystack(type_haystack="essay")), ()
    except DownloadError:
        return manual_prose().split(), (MANUAL_NOTE,)


@cache
def manual_prose() -> str:
    """The paragraphs of Python's language reference that are prose, each once, in a fixed order."""
    paragraphs = (" ".join(part.split()) for text in manual_texts() for part in GAP.split(text.body))
    return " ".join(dict.fromkeys(part for part in paragraphs if PROSE.fullmatch(part)))


def _sentence_splitter() -> tuple[Callable[[str], list[str]], tuple[str, ...]]:
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
    return nltk.sent_tokenize, ()


def _questions(name: str, files: LocalFiles) -> tuple[list[Doc], list[str], tuple[str, ...]]:
    """Questions and documents as lm-eval reads them, from a person's file or the network, and a note."""
    from lm_eval.tasks.ruler import qa_utils

    file = QA_FILES[name]
    own = files.json(file)
    read = qa_utils.read_squad if name == "qa_squad" else qa_utils.read_hotpotqa

    def data(url: str) -> Any:
        if own is not None:
            return own
        try:
            return fetched(url, lambda: _download(url))
        except DownloadError as error:
            raise InputError(
                f"{error} Download {url} and put it as {file} into a folder that --ruler-files names"
            ) from error

    try:
        with mock.patch.object(qa_utils, "download_json", data):
            questions, documents = read.__wrapped__()  # its cache would keep this folder's file
        if not questions:
            raise IndexError("no question that can be answered")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{files.path(file)} is not what lm-eval reads: download it again") from error
    return questions, documents, () if own is None else (f"The questions are from {files.path(file)}",)


@cache
def _download(url: str) -> Any:
    import httpx

    answer = httpx.get(url, timeout=httpx.Timeout(60, connect=CONNECT_SECONDS), follow_redirects=True)
    return answer.raise_for_status().json()


def _least(task: Definition, tokenizer: Callable[..., Any], length: int, seed: str) -> int:
    """Tokens that a task needs at least, where lm-eval would look for ever for a text that fits into fewer."""
    from lm_eval.tasks.ruler import cwe_utils, fwe_utils, vt_utils

    def tokens(text: str) -> int:
        return len(tokenizer(text).input_ids) + MARGIN

    if task.name == "fwe":
        return tokens(fwe_utils.TEMPLATE.format(context="", query=""))
    if task.name == "cwe":
        return tokens(cwe_utils.generate_input_output(10, length)[1]) + task.max_new_tokens
    if task.name != "vt":
        return SHORTEST
    make = partial(vt_utils.generate_input_output, num_chains=1, num_hops=4)
    text, answer = make(5, is_icl=True)
    if tokens(f"{text} {answer}") + task.max_new_tokens > EXAMPLE_TOKENS:
        raise InputError("RULER's vt does not fit this tokenizer, which cuts text into very many tokens: leave it out")
    with seeded(seed):  # the very example that the run will begin with
        solved = vt_utils.sys_vartrack_w_noise_random(
            tokenizer=tokenizer, num_samples=1, max_seq_length=EXAMPLE_TOKENS, incremental=5
        )[0]
        text, answer = make(10)
    shown = tokens(f"{solved['input']} {' '.join(solved['outputs'])}\n\n")
    return shown + tokens(f"{text} {answer}") + task.max_new_tokens


def _are_whole(task: Definition, docs: Sequence[Doc], words: int) -> bool:
    """Whether there are prompts, and each is more than what lm-eval falls back to where little fits.

    That is no words at all, or fewer `words` of essays.
    """
    if task.name in QA_FILES:
        return bool(docs)
    least = words if task.name in ESSAY_TASKS else 0
    return bool(docs) and all(
        len(doc["input"].split()) >= least
        and doc["outputs"]
        and all(answer in doc["input"] for answer in doc["outputs"])
        for doc in docs
    )


def _fill_notes(task: Definition, length: int, count: int, docs: Sequence[Doc]) -> Iterator[str]:
    """What to say where prompts are shorter or questions fewer than asked for."""
    mean = sum(doc["length"] for doc in docs) // len(docs)
    if mean < length / 2:
        yield f"The prompts have about {mean:,} tokens instead of {length:,}: their text ends, or grows in large steps"
    if len(docs) < count:
        yield f"Of {task.name}, {len(docs):,} questions instead of {count:,} fit into {length:,} tokens"
