"""`judgeq evaluate`: measure methods side by side, on the rows they keep or on the answers they leave possible."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeq.commands.common import add_common, add_flag, add_methods, add_number, add_option
from judgeq.commands.measuring import (
    bars_of,
    load_shared,
    measure,
    read_budgets,
    read_numbers,
    report,
    soft_tokens,
)
from judgeq.config import check_at_least
from judgeq.console import say
from judgeq.errors import InputError

if TYPE_CHECKING:
    from judgeq.evaluation.questions import Task
    from judgeq.models.language_model import LanguageModel
    from judgeq.soft_tokens.soft_tokens import SoftTokens

PLACES = {"last": (False,), "first": (True,), "both": (False, True)}
"""The position of the question, and so whether it is moved."""
KNOWN, UNKNOWN = "known", "unknown"
"""A position of the question: after a document whose rows were chosen without it."""
KINDS = {
    "hit-rate": "share of the oracle's top rows that a method keeps",
    "answers": "right answers about facts planted in held-out articles",
    "jsonl": "right answers to questions of your own",
    "ruler": "RULER's 13 tasks at any length, through lm-eval",
    "niah": "a needle in a haystack, depth by length",
    "longbench": "LongBench's 16 English tasks, through lm-eval",
}


def add(parser: argparse.ArgumentParser) -> None:
    parsers = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    runs = (_run_hit_rate, _run_answers, _run_jsonl, _run_ruler, _run_niah, _run_longbench)
    hit_rate, answers, jsonl, ruler, niah, longbench = kinds = [
        parsers.add_parser(name, help=meaning) for name, meaning in KINDS.items()
    ]
    for kind, run in zip(kinds, runs, strict=True):
        kind.set_defaults(run=run)
        add_common(kind)
        add_methods(kind, "judgeq,snapkv" if kind is hit_rate else "full,judgeq,snapkv", "64,128,256")
    for kind in kinds[1:]:
        add_number(kind, "--per", "budgets are rows for every N tokens of the prompt, such as 1000")
        meaning = "memory rows of methods that name none (default: those of the soft tokens)"
        add_number(kind, "--memory", meaning)
        meaning = "stop after this time with what is measured so far; the same command resumes (with --json FILE)"
        add_option(kind, "--minutes", "N", meaning, type=float)
    for kind in (hit_rate, answers, jsonl):
        add_flag(kind, "--skip-bad", "leave out lines of a file that are not valid")

    meaning = "what is held out of wiki, code, manuals, mixture, a FILE.jsonl or a FOLDER"
    add_option(hit_rate, "--data", "NAME", meaning, "wiki")
    add_number(hit_rate, "--examples", "prompts", 32)
    add_number(hit_rate, "--min-tokens", "shortest document", 512)
    add_number(hit_rate, "--max-tokens", "longest document", 1024)
    add_number(hit_rate, "--pool", "max-pooling of the scores of methods that name none", 1)

    meaning = "facts, facts-begun (begun as the question proposes), facts-led (as the text says it), keys, a FILE.jsonl"
    add_option(answers, "--data", "A,B", meaning, "facts-led")
    add_option(answers, "--lengths", "N,M", "tokens of the prompts", "1000")
    add_number(answers, "--examples", "prompts of each length", 32)
    add_number(answers, "--max-new-tokens", "longest answer, where a file does not say", 24)

    for kind in (answers, jsonl):
        meaning = f"{UNKNOWN}: rows of the document alone are chosen, of which budgets are then shares"
        kind.add_argument(
            "--question", choices=(KNOWN, UNKNOWN), default=KNOWN, help=f"{meaning} (default: %(default)s)"
        )

    more = "answer_prefix, max_new_tokens, question_first and metric"
    meaning = f"JSON lines with context, question, answers and optionally {more}"
    add_option(jsonl, "--data", "FILE", meaning, required=True)

    for kind, examples in ((ruler, 25), (niah, 2), (longbench, 25)):
        add_number(kind, "--examples", "prompts of each task, length and depth", examples)
        meaning = "where the question stands: last as published, first (moved before the document), or both"
        choices = tuple(PLACES)
        if kind is ruler:
            choices = (*choices, UNKNOWN)
            meaning += f"; or {UNKNOWN}: rows of the document alone are chosen, of which budgets are then shares"
        kind.add_argument("--question", choices=choices, default="last", help=f"{meaning} (default: %(default)s)")
    for kind, lengths in ((ruler, "1024,2048,4096"), (niah, "512,1024,2048,4096")):
        meaning = "tokens of a prompt and its answer, without the chat template"
        add_option(kind, "--lengths", "N,M", meaning, lengths)
        meaning = "where essays.txt, squad.json and hotpotqa.json lie; what is not there comes from the network"
        add_option(kind, "--ruler-files", "DIR", meaning)
    meaning = "names, all, or generated: the 11 that need no data set"
    add_option(ruler, "--tasks", "A,B", meaning, "generated")
    add_option(niah, "--depths", "N,M", "percent of the document before the needle", "0,25,50,75,100")
    add_option(longbench, "--tasks", "A,B", "names", "all")
    meaning = "where NAME.jsonl lie; without it, the Hub is asked"
    add_option(longbench, "--longbench-files", "DIR", meaning)


def _run_hit_rate(arguments: argparse.Namespace) -> None:
    from judgeq.data.mixture import parse_sources
    from judgeq.data.mixture import report as left_out_of
    from judgeq.evaluation.hit_rate import hit_rates
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.workers import Workers

    check_at_least("evaluate", "examples", arguments.examples, 1)
    methods = methods_from_text(arguments.methods, pool=arguments.pool, unit="row")
    budgets = read_budgets(arguments.budgets)
    source = parse_sources(arguments.data, part="unseen", skip_bad=arguments.skip_bad)
    workers = Workers()
    lm = load_shared(arguments, workers)
    tokens = soft_tokens(lm, methods.values(), arguments.tokens)
    size = (arguments.min_tokens, arguments.max_tokens)
    examples = source.examples(lm, arguments.examples, tokens=size, seed=arguments.seed)
    if workers.rank == 0 and (left_out := left_out_of(source)):
        say(f"judgeq: {left_out}\n")
    with bars_of(workers) as bars:
        rates = hit_rates(
            lm,
            examples,
            list(methods.values()),
            budgets,
            tokens=tokens,
            names=list(methods),
            workers=workers,
            progress=partial(bars.advance, "prompts"),
        )
    if workers.rank > 0:
        return
    settings = {
        "document_tokens": size,
        "examples": arguments.examples,
        "pool": arguments.pool,
        "seed": arguments.seed,
    }
    report(arguments, lm, tokens, settings, [rate.to_row(source.name) for rate in rates])


def _run_answers(arguments: argparse.Namespace) -> None:
    from judgeq.data.planted import PLANTED

    check_at_least("evaluate", "examples", arguments.examples, 1)
    check_at_least("evaluate", "max_new_tokens", arguments.max_new_tokens, 1)
    lengths = read_numbers(arguments.lengths, "length")
    names = [name.strip() for name in arguments.data.split(",")]
    for name in names:
        if name not in PLANTED and not name.endswith(".jsonl"):
            raise InputError(f"There is no data {name!r}: choose {', '.join(PLANTED)}, or give a FILE.jsonl")
    unknown = arguments.question == UNKNOWN
    files = {name: _file(name, arguments.skip_bad, unknown) for name in names if name not in PLANTED}
    count, longest = arguments.examples, arguments.max_new_tokens

    def tasks(lm: LanguageModel, tokens: SoftTokens | None) -> Iterator[Task]:
        from judgeq.evaluation.questions import Question, Task

        for name in names:
            if name in files:
                yield files[name](lm, tokens, longest=longest, count=count)
                continue
            for length in lengths:
                drawn = PLANTED[name].examples(lm, count, tokens=(length, length), seed=arguments.seed)
                questions = [Question(example, longest) for example in drawn]
                yield _asked(Task(name, questions, length=length), unknown)

    measure(arguments, tasks, {"lengths": lengths, "examples": count, "max_new_tokens": longest})


def _run_jsonl(arguments: argparse.Namespace) -> None:
    task = _file(arguments.data, arguments.skip_bad, arguments.question == UNKNOWN)
    measure(arguments, lambda lm, tokens: [task(lm, tokens)], {"data": arguments.data})


def _asked(task: Task, unknown: bool) -> Task:
    """The task, or where the question is unknown, a task of another name of documents that are evicted before it."""
    if not unknown:
        return task
    questions = [question.after_document() for question in task.questions]
    return replace(task, name=f"{task.name}-{UNKNOWN}", questions=questions)


def _file(name: str, skip_bad: bool, unknown: bool) -> Callable[..., Task]:
    """A file of JSON lines as a task: read before the model is loaded, checked against it when this is called."""
    from judgeq.data.jsonl import read_json_lines

    path = Path(name)
    lines, left_out = read_json_lines(path, skip_bad)

    def task(lm: LanguageModel, tokens: SoftTokens | None, count: int | None = None, **options: Any) -> Task:
        from judgeq.evaluation.questions import Task, questions_of

        reserve = tokens.positions if tokens else 0
        questions = questions_of(lm, path, lines, reserve, skip_bad=skip_bad, **options)
        if bad := left_out + len(lines) - len(questions):
            say(f"judgeq: {path}: lines left out: {bad:,}\n")
        label = path.stem.encode("utf-8", "replace").decode("utf-8")  # names of files may be no UTF-8
        return _asked(Task(label, questions[:count]), unknown)

    return task


def _run_ruler(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.harness import (
        RULER_GENERATED,
        RULER_TASKS,
        LocalFiles,
        benchmark_names,
        ruler_tasks,
    )

    generated = ",".join(RULER_GENERATED)
    names = benchmark_names(generated if arguments.tasks == "generated" else arguments.tasks, RULER_TASKS)
    lengths = read_numbers(arguments.lengths, "length")
    files = LocalFiles(_folder(arguments.ruler_files))
    unknown = arguments.question == UNKNOWN

    def tasks(lm: LanguageModel, tokens: SoftTokens | None, **more: Any) -> list[Task]:
        options = {"seed": arguments.seed, "files": files, "question_unknown": unknown}
        return ruler_tasks(lm, names, lengths, **options, **more)

    _measure_everywhere(arguments, tasks, {"tasks": names, "lengths": lengths})


def _run_niah(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.harness import LocalFiles, needle_tasks

    lengths = read_numbers(arguments.lengths, "length")
    depths = [_depth(text) for text in arguments.depths.split(",")]
    files = LocalFiles(_folder(arguments.ruler_files))

    def tasks(lm: LanguageModel, tokens: SoftTokens | None, **more: Any) -> list[Task]:
        return needle_tasks(lm, lengths, depths, seed=arguments.seed, files=files, **more)

    _measure_everywhere(arguments, tasks, {"lengths": lengths, "depths": depths})


def _run_longbench(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.harness import LONGBENCH_TASKS, benchmark_names, longbench_tasks

    names = benchmark_names(arguments.tasks, LONGBENCH_TASKS)
    folder = _folder(arguments.longbench_files)

    def tasks(lm: LanguageModel, tokens: SoftTokens | None, **more: Any) -> list[Task]:
        return longbench_tasks(lm, names, folder=folder, reserve=tokens.positions if tokens else 0, **more)

    _measure_everywhere(arguments, tasks, {"tasks": names})


def _measure_everywhere(
    arguments: argparse.Namespace, tasks: Callable[..., list[Task]], settings: dict[str, Any]
) -> None:
    """`tasks` is called with the model and the soft tokens, `count`, and `question_first` for each place in turn."""
    check_at_least("evaluate", "examples", arguments.examples, 1)

    def in_every_place(lm: LanguageModel, tokens: SoftTokens | None) -> Iterator[Task]:
        for first in PLACES.get(arguments.question, (False,)):
            yield from tasks(lm, tokens, count=arguments.examples, question_first=first)

    measure(arguments, in_every_place, {**settings, "examples": arguments.examples}, skip_long=True)


def _folder(text: str | None) -> Path | None:
    if text is not None and not Path(text).is_dir():
        raise InputError(f"{text} is not a folder: give one that holds the data files")
    return None if text is None else Path(text)


def _depth(text: str) -> int:
    if not text.strip().isdigit() or int(text) > 100:
        raise InputError(f"The depth {text!r} is not a percentage: give some from 0 to 100")
    return int(text)
