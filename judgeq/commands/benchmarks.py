"""`judgeq evaluate ruler|niah|longbench`: public benchmarks, with prompts and metrics from lm-eval."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeq.commands.measuring import add_answered, add_number, measure, read_numbers
from judgeq.config import check_at_least
from judgeq.errors import InputError

if TYPE_CHECKING:
    from judgeq.evaluation.questions import Task
    from judgeq.models.language_model import LanguageModel
    from judgeq.soft_tokens.soft_tokens import SoftTokens

PLACES = {"last": (False,), "first": (True,), "both": (False, True)}
"""Where the question stands, and so whether it is moved."""


def add_ruler(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_ruler)
    _add_benchmark(parser, examples=25)
    parser.add_argument(
        "--tasks",
        default="generated",
        metavar="A,B",
        help="names, all, or generated: the 11 that need no data set (default: %(default)s)",
    )
    _add_lengths(parser, "1024,2048,4096")
    _add_ruler_files(parser)


def add_niah(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_niah)
    _add_benchmark(parser, examples=2)
    _add_lengths(parser, "512,1024,2048,4096")
    parser.add_argument(
        "--depths",
        default="0,25,50,75,100",
        metavar="N,M",
        help="percent of the document before the needle (default: %(default)s)",
    )
    _add_ruler_files(parser)


def add_longbench(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_longbench)
    _add_benchmark(parser, examples=25)
    parser.add_argument("--tasks", default="all", metavar="A,B", help="names (default: %(default)s)")
    parser.add_argument(
        "--longbench-files", metavar="DIR", help="where NAME.jsonl lie; without it, the Hub is asked"
    )


def _add_benchmark(parser: argparse.ArgumentParser, examples: int) -> None:
    add_answered(parser)
    add_number(parser, "--examples", examples, "prompts of each task, length and depth")
    parser.add_argument(
        "--question",
        choices=tuple(PLACES),
        default="last",
        help="where it stands: last as published, first (moved before the document), or both (default: %(default)s)",
    )


def _add_lengths(parser: argparse.ArgumentParser, lengths: str) -> None:
    parser.add_argument(
        "--lengths",
        default=lengths,
        metavar="N,M",
        help="tokens of a prompt and its answer, without the chat template (default: %(default)s)",
    )


def _add_ruler_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ruler-files",
        metavar="DIR",
        help="where essays.txt, squad.json and hotpotqa.json lie; what is not there comes from the network",
    )


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
    more = {"seed": arguments.seed, "files": LocalFiles(_folder(arguments.ruler_files))}

    def tasks(lm: LanguageModel, tokens: SoftTokens | None, first: bool) -> list[Task]:
        return ruler_tasks(lm, names, lengths, arguments.examples, question_first=first, **more)

    _measure(arguments, tasks, {"tasks": names, "lengths": lengths})


def _run_niah(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.harness import LocalFiles, needle_tasks

    lengths = read_numbers(arguments.lengths, "length")
    depths = [_depth(text) for text in arguments.depths.split(",")]
    more = {"seed": arguments.seed, "files": LocalFiles(_folder(arguments.ruler_files))}

    def tasks(lm: LanguageModel, tokens: SoftTokens | None, first: bool) -> list[Task]:
        return needle_tasks(lm, lengths, depths, arguments.examples, question_first=first, **more)

    _measure(arguments, tasks, {"lengths": lengths, "depths": depths})


def _run_longbench(arguments: argparse.Namespace) -> None:
    from judgeq.evaluation.harness import LONGBENCH_TASKS, benchmark_names, longbench_tasks

    names = benchmark_names(arguments.tasks, LONGBENCH_TASKS)
    folder = _folder(arguments.longbench_files)

    def tasks(lm: LanguageModel, tokens: SoftTokens | None, first: bool) -> list[Task]:
        reserve = tokens.n if tokens else 0
        return longbench_tasks(
            lm, names, arguments.examples, question_first=first, folder=folder, reserve=reserve
        )

    _measure(arguments, tasks, {"tasks": names})


def _measure(
    arguments: argparse.Namespace,
    tasks: Callable[[LanguageModel, SoftTokens | None, bool], list[Task]],
    settings: dict[str, Any],
) -> None:
    """`tasks` is called with the model, the soft tokens and whether the question stands first."""
    check_at_least("evaluate", "examples", arguments.examples, 1)

    def in_every_place(lm: LanguageModel, tokens: SoftTokens | None) -> Iterator[Task]:
        for first in PLACES[arguments.question]:
            yield from tasks(lm, tokens, first)

    measure(arguments, in_every_place, {**settings, "examples": arguments.examples}, skip_long=True)


def _folder(text: str | None) -> Path | None:
    if text is not None and not Path(text).is_dir():
        raise InputError(f"{text} is no folder: give one that holds the data files")
    return None if text is None else Path(text)


def _depth(text: str) -> int:
    if not text.strip().isdigit() or int(text) > 100:
        raise InputError(f"The depth {text!r} is not a percentage: give some from 0 to 100")
    return int(text)
