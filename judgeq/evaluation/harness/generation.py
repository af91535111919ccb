"""lm-eval's RULER generators: only as many questions as asked for, the same on every run, without endless loops.

Names of lm-eval's modules stand for other values while a generator runs, and only then.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from judgeq.errors import DownloadError, InputError
from judgeq.evaluation.harness.haystack import essay_words, sentence_splitter
from judgeq.evaluation.harness.library import CONNECT_SECONDS, Definition, fetched, quiet, seeded, substituted
from judgeq.evaluation.harness.local_files import LocalFiles
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
ESSAY_TASKS = ("niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multivalue", "niah_multiquery")
QA_FILES = {"qa_squad": "squad.json", "qa_hotpot": "hotpotqa.json"}

Doc = dict[str, Any]


@dataclass
class _Essays:
    """The words between which needles are hidden.

    Attributes:
        found: how many there are.
        most: how many of them lm-eval may use; None = all.
    """

    found: int = 0
    most: int | None = None


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
    """The first documents of a task, and what a reader of their results must know.

    Args:
        length: tokens of a prompt and its answer.
        depth: percent of a haystack that stand before its needle; None is anywhere.

    Raises:
        InputError: see `ruler_tasks`.
    """
    if length < SHORTEST:
        raise InputError(f"RULER has no prompts of {length:,} tokens: ask for at least {SHORTEST}")
    if not 1 <= count <= MOST:
        raise InputError(f"RULER has from 1 to {MOST} questions of a length, not {count:,}: ask for so many")
    tokenizer = partial(lm.tokenizer, verbose=False)  # too long a text is reported by the runner
    notes: list[str] = []
    module = task.config["custom_dataset"].__globals__
    essays = _Essays()
    with _inputs(task, tokenizer, files, depth, notes, essays) as most:
        own = [module["RNG"]] if "RNG" in module else []  # the generator that `cwe` keeps
        with quiet(), seeded(seed, *own):
            too_short = length < _least(task, tokenizer, length, seed)

        def made(limit: int) -> list[Doc]:
            with quiet(), seeded(seed, *own):
                return _run(task, length, limit)

        asked, docs = min(count, most), []
        while not too_short:
            docs = made(asked)
            if len(docs) >= count or asked == most:
                break
            asked = min(2 * asked, most)  # some did not fit and were left out
        if task.name in ESSAY_TASKS and essays.found >= ESSAY_STEP and not _are_whole(task, docs, ESSAY_STEP):
            docs = _with_fewer_words(task, count, essays, made)
    docs = docs[:count]
    if not _are_whole(task, docs, essays.most or ESSAY_STEP):
        few = task.name in ESSAY_TASKS and essays.found < ESSAY_STEP
        more = f", or give essays of at least {ESSAY_STEP} words" if few else ""
        raise InputError(
            f"RULER's {task.name} has no room in {length:,} tokens: ask for longer prompts{more}"
        )
    return docs, (*notes, *_fill_notes(task, length, count, docs))


def _with_fewer_words(
    task: Definition, count: int, essays: _Essays, made: Callable[[int], list[Doc]]
) -> list[Doc]:
    """Documents between as many words of the essays as fit; none where not even the fewest do."""
    for words in range(ESSAY_STEP - FINER_STEP, FEWEST_WORDS - 1, -FINER_STEP):
        essays.most = words
        docs = made(count)
        if len(docs) >= count and _are_whole(task, docs, words):
            return docs
    return []


def _run(task: Definition, length: int, limit: int) -> list[Doc]:
    """What lm-eval makes of its first `limit` tries; fewer where some do not fit."""
    make = task.config["custom_dataset"]
    sampler = make.__globals__.get("generate_samples", make).__globals__
    # every generator runs through `tqdm(range(number), …)` once: the way to make fewer, and without a progress bar
    with substituted(sampler, tqdm=lambda tries, **_: tries[:limit]):
        try:
            return [dict(doc) for doc in make(max_seq_lengths=[length])["test"]]
        except ValueError:  # lm-eval says so where nothing fits
            return []


@contextlib.contextmanager
def _inputs(
    task: Definition,
    tokenizer: Callable[..., Any],
    files: LocalFiles,
    depth: int | None,
    notes: list[str],
    essays: _Essays,
) -> Iterator[int]:
    """Inside, the generator reads the tokenizer and the texts that are given; yields how many questions there are."""
    module = task.config["custom_dataset"].__globals__
    with contextlib.ExitStack() as stack:
        # lm-eval's own would load a tokenizer by its name, with the code that comes along
        stack.enter_context(substituted(module, get_tokenizer=lambda *_: tokenizer))
        if task.name.startswith("niah"):
            stack.enter_context(_haystack(module, files, depth, notes, essays))
        yield stack.enter_context(_questions(task, module, files, notes)) if task.name in QA_FILES else MOST


@contextlib.contextmanager
def _haystack(
    module: dict[str, Any], files: LocalFiles, depth: int | None, notes: list[str], essays: _Essays
) -> Iterator[None]:
    original = module["get_haystack"]
    sampler = module["generate_samples"].__globals__
    split = sampler["sent_tokenize"]

    def haystack(type_haystack: str) -> Any:
        if type_haystack != "essay":
            return original(type_haystack=type_haystack)
        words, about_words = essay_words(files, original)
        sampler["sent_tokenize"], about_sentences = sentence_splitter(split)
        notes[:] = [*about_words, *about_sentences]
        essays.found = len(words)
        return words[: essays.most]

    depths = sampler["DEPTHS"] if depth is None else [depth]
    with (
        substituted(module, get_haystack=haystack),
        substituted(sampler, sent_tokenize=split, DEPTHS=depths),
    ):
        yield


@contextlib.contextmanager
def _questions(
    task: Definition, module: dict[str, Any], files: LocalFiles, notes: list[str]
) -> Iterator[int]:
    """Inside, lm-eval's readers take a person's file, or a server that answers soon."""
    name = QA_FILES[task.name]
    read = module["read_squad" if task.name == "qa_squad" else "read_hotpotqa"]
    own = files.json(name)
    get, download = module["requests"].get, module["download_json"]

    def in_time(url: str, timeout: float) -> Any:
        return get(url, timeout=(CONNECT_SECONDS, timeout))

    def data(url: str) -> Any:
        if own is not None:
            notes.append(f"The questions are from {files.path(name)}")
            return own
        try:
            return fetched(url, lambda: download(url))
        except DownloadError as error:
            raise InputError(
                f"{error} Download {url} and put it as {name} into a folder that --ruler-files names"
            ) from error

    with substituted(module, download_json=data, requests=SimpleNamespace(get=in_time)):
        try:
            questions, _ = read()
            if not questions:
                raise IndexError("no question that can be answered")
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{files.path(name)} is not what lm-eval reads: download it again") from error
        try:
            yield min(MOST, len(questions))
        finally:
            read.cache_clear()  # it would keep this folder's file for another one


def _least(task: Definition, tokenizer: Callable[..., Any], length: int, seed: str) -> int:
    """Tokens that a task needs at least, where lm-eval would look for ever for a text that fits into fewer."""
    module = task.config["custom_dataset"].__globals__

    def tokens(text: str) -> int:
        return len(tokenizer(text).input_ids) + MARGIN

    if task.name == "fwe":
        return tokens(module["TEMPLATE"].format(context="", query=""))
    if task.name == "cwe":
        return tokens(module["generate_input_output"](10, length)[1]) + task.max_new_tokens
    if task.name != "vt":
        return SHORTEST
    make = partial(module["generate_input_output"], num_chains=1, num_hops=4)
    text, answer = make(5, is_icl=True)
    if tokens(f"{text} {answer}") + task.max_new_tokens > EXAMPLE_TOKENS:
        raise InputError(
            "RULER's vt does not fit this tokenizer, which cuts text into very many tokens: leave it out"
        )
    with seeded(seed):  # the very example that the run will begin with
        solved = module["sys_vartrack_w_noise_random"](
            tokenizer=tokenizer, num_samples=1, max_seq_length=EXAMPLE_TOKENS, incremental=5
        )[0]
        text, answer = make(10)
    shown = tokens(f"{solved['input']} {' '.join(solved['outputs'])}\n\n")
    return shown + tokens(f"{text} {answer}") + task.max_new_tokens


def _are_whole(task: Definition, docs: Sequence[Doc], words: int) -> bool:
    """Whether there are prompts, and each is whole; `words`: of essays that each has at least."""
    return bool(docs) and all(_is_whole(task, doc, words) for doc in docs)


def _is_whole(task: Definition, doc: Doc, words: int) -> bool:
    """Whether a prompt is more than what lm-eval falls back to where little fits: no words, or next to no essays."""
    if task.name in QA_FILES:
        return True
    if task.name in ESSAY_TASKS and len(doc["input"].split()) < words:
        return False
    return bool(doc["outputs"]) and all(answer in doc["input"] for answer in doc["outputs"])


def _fill_notes(task: Definition, length: int, count: int, docs: Sequence[Doc]) -> Iterator[str]:
    """What to say where prompts are shorter or questions fewer than asked for."""
    mean = sum(doc["length"] for doc in docs) // len(docs)
    if mean < length / 2:
        yield f"The prompts have about {mean:,} tokens instead of {length:,}: their text ends, or grows in large steps"
    if len(docs) < count:
        yield f"Of {task.name}, {len(docs):,} questions instead of {count:,} fit into {length:,} tokens"
