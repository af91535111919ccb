"""`judgeq evaluate answers` and `judgeq evaluate jsonl`: right answers to planted questions and to one's own."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeq.commands.measuring import add_answered, add_number, add_skip_bad, measure, read_numbers
from judgeq.config import check_at_least
from judgeq.console import say
from judgeq.errors import InputError

if TYPE_CHECKING:
    from judgeq.evaluation.questions import Task
    from judgeq.models.language_model import LanguageModel
    from judgeq.soft_tokens.soft_tokens import SoftTokens


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run)
    add_answered(parser)
    parser.add_argument(
        "--data",
        default="facts-led",
        metavar="A,B",
        help="facts, facts-led (with the answer begun), keys or a FILE.jsonl (default: %(default)s)",
    )
    parser.add_argument(
        "--lengths", default="1000", metavar="N,M", help="tokens of the prompts (default: %(default)s)"
    )
    add_number(parser, "--examples", 32, "prompts of each length")
    add_number(parser, "--max-new-tokens", 24, "longest answer, where a file does not say")
    add_skip_bad(parser)


def add_jsonl(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_run_jsonl)
    add_answered(parser)
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="JSON lines with context, question, answers and optionally answer_prefix, max_new_tokens, question_first "
        "and metric",
    )
    add_skip_bad(parser)


def _run(arguments: argparse.Namespace) -> None:
    from judgeq.data.planted import PLANTED

    check_at_least("evaluate", "examples", arguments.examples, 1)
    check_at_least("evaluate", "max_new_tokens", arguments.max_new_tokens, 1)
    lengths = read_numbers(arguments.lengths, "length")
    names = [name.strip() for name in arguments.data.split(",")]
    for name in names:
        if name not in PLANTED and not name.endswith(".jsonl"):
            raise InputError(f"There is no data {name!r}: choose {', '.join(PLANTED)}, or give a FILE.jsonl")
    files = {name: _File(name, arguments.skip_bad) for name in names if name not in PLANTED}
    count, longest = arguments.examples, arguments.max_new_tokens

    def tasks(lm: LanguageModel, tokens: SoftTokens | None) -> Iterator[Task]:
        from judgeq.evaluation.questions import Question, Task

        for name in names:
            if name in files:
                yield files[name].task(lm, tokens, longest=longest, count=count)
                continue
            for length in lengths:
                drawn = PLANTED[name].examples(lm, count, tokens=(length, length), seed=arguments.seed)
                yield Task(name, [Question(example, longest) for example in drawn], length=length)

    measure(arguments, tasks, {"lengths": lengths, "examples": count, "max_new_tokens": longest})


def _run_jsonl(arguments: argparse.Namespace) -> None:
    file = _File(arguments.data, arguments.skip_bad)
    measure(arguments, lambda lm, tokens: [file.task(lm, tokens)], {"data": arguments.data})


class _File:
    """JSON lines: read before the model is loaded, checked against it afterwards."""

    def __init__(self, name: str, skip_bad: bool) -> None:
        from judgeq.data.jsonl import read_json_lines

        self.path, self.skip_bad = Path(name), skip_bad
        self.lines, self.left_out = read_json_lines(self.path, skip_bad)

    def task(
        self, lm: LanguageModel, tokens: SoftTokens | None, count: int | None = None, **options: Any
    ) -> Task:
        from judgeq.evaluation.questions import Task, questions_of

        reserve = tokens.n if tokens else 0
        questions = questions_of(lm, self.path, self.lines, reserve, skip_bad=self.skip_bad, **options)
        left_out = self.left_out + len(self.lines) - len(questions)
        if left_out:
            say(f"judgeq: {self.path}: lines left out: {left_out:,}\n")
        name = self.path.stem.encode("utf-8", "replace").decode("utf-8")  # names of files may be no UTF-8
        return Task(name, questions[:count])
