"""`judgeq evaluate`: measure methods side by side, on the rows they keep or on the answers they leave possible."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeq._version import __version__
from judgeq.commands.common import add_common, load_model, write_json
from judgeq.config import Budget, check_at_least, check_budget, parse_budget
from judgeq.errors import InputError

if TYPE_CHECKING:
    from judgeq.evaluation.answers import Question
    from judgeq.language_model import LanguageModel
    from judgeq.methods import Method
    from judgeq.soft_tokens import SoftTokens

    Tasks = Callable[[LanguageModel, SoftTokens | None], Iterable[tuple[str, Sequence[Question]]]]


def add(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    _add_hit_rate(kinds.add_parser("hit-rate", help="share of the oracle's top rows that a method keeps"))
    _add_answers(kinds.add_parser("answers", help="right answers about facts planted in held-out articles"))
    _add_jsonl(kinds.add_parser("jsonl", help="right answers to questions of your own"))


def _add_hit_rate(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_hit_rate)
    _add_measured(parser, methods="judgeq,snapkv")
    parser.add_argument(
        "--data",
        default="wiki",
        metavar="NAME",
        help="what is held out of wiki, code, manuals, mixture, a FILE.jsonl or a FOLDER (default: %(default)s)",
    )
    _add_number(parser, "--examples", 32, "prompts")
    _add_number(parser, "--min-tokens", 512, "shortest document")
    _add_number(parser, "--max-tokens", 1024, "longest document")
    _add_number(parser, "--pool", 1, "max-pooling of the scores of methods that name none")
    _add_skip_bad(parser)


def _add_answers(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_answers)
    _add_measured(parser, methods="full,judgeq,snapkv")
    parser.add_argument(
        "--data",
        default="facts-led",
        metavar="A,B",
        help="facts, facts-led (with the answer begun), keys or a FILE.jsonl (default: %(default)s)",
    )
    parser.add_argument(
        "--lengths", default="1000", metavar="N,M", help="tokens of the prompts (default: %(default)s)"
    )
    _add_number(parser, "--examples", 32, "prompts of each length")
    _add_number(parser, "--max-new-tokens", 24, "longest answer, where a file does not say")
    _add_per(parser)
    _add_skip_bad(parser)


def _add_jsonl(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_jsonl)
    _add_measured(parser, methods="full,judgeq,snapkv")
    parser.add_argument(
        "--data",
        required=True,
        metavar="FILE",
        help="JSON lines with context, question, answers and optionally answer_prefix, max_new_tokens, question_first "
        "and metric",
    )
    _add_per(parser)
    _add_skip_bad(parser)


def _add_measured(parser: argparse.ArgumentParser, methods: str) -> None:
    add_common(parser)
    parser.add_argument(
        "--methods",
        default=methods,
        metavar="A,B",
        help="with options if you like, such as judgeq:allocation=adakv:pool=5 (default: %(default)s)",
    )
    parser.add_argument(
        "--budgets",
        default="64,128,256",
        metavar="N,M",
        help="rows per KV head, or shares such as 0.1 (default: %(default)s)",
    )
    parser.add_argument("--tokens", metavar="NAME|DIR", help="soft tokens; those shipped by default")


def _add_number(parser: argparse.ArgumentParser, option: str, default: int, meaning: str) -> None:
    parser.add_argument(
        option, type=int, default=default, metavar="N", help=f"{meaning} (default: %(default)s)"
    )


def _add_per(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--per", type=int, metavar="N", help="budgets are rows for every N tokens of the prompt, such as 1000"
    )


def _add_skip_bad(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--skip-bad", action="store_true", help="leave out lines of a file that are not valid"
    )


def _hit_rate(arguments: argparse.Namespace) -> None:
    from judgeq.data.mixture import parse_sources, report
    from judgeq.evaluation.hit_rate import hit_rates
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    check_at_least("evaluate", "examples", arguments.examples, 1)
    methods = methods_from_text(arguments.methods, pool=arguments.pool)
    budgets = _budgets(arguments.budgets)
    source = parse_sources(arguments.data, part="unseen", skip_bad=arguments.skip_bad)
    lm = load_model(arguments)
    tokens = _soft_tokens(lm, methods.values(), arguments.tokens)
    size = (arguments.min_tokens, arguments.max_tokens)
    examples = source.examples(lm, arguments.examples, tokens=size, seed=arguments.seed)
    if left_out := report(source):
        print(f"judgeq: {left_out}", file=sys.stderr)
    with Bars() as bars:
        rates = hit_rates(
            lm,
            examples,
            list(methods.values()),
            budgets,
            tokens=tokens,
            names=list(methods),
            progress=partial(bars.advance, "prompts"),
        )
    settings = {"document_tokens": size, "pool": arguments.pool, "seed": arguments.seed}
    _report(arguments, lm, tokens, settings, [rate.to_row(source.name) for rate in rates])


def _answers(arguments: argparse.Namespace) -> None:
    from judgeq.data.planted import PLANTED

    check_at_least("evaluate", "examples", arguments.examples, 1)
    check_at_least("evaluate", "max_new_tokens", arguments.max_new_tokens, 1)
    lengths = [_length(text) for text in arguments.lengths.split(",")]
    names = [name.strip() for name in arguments.data.split(",")]
    for name in names:
        if name not in PLANTED and not name.endswith(".jsonl"):
            raise InputError(f"There is no data {name!r}: choose {', '.join(PLANTED)}, or give a FILE.jsonl")
    files = {name: _File(name, arguments.skip_bad) for name in names if name not in PLANTED}
    count, longest = arguments.examples, arguments.max_new_tokens

    def tasks(lm: LanguageModel, tokens: SoftTokens | None) -> Iterator[tuple[str, Sequence[Question]]]:
        from judgeq.evaluation.answers import Question

        for name in names:
            if name in files:
                yield files[name].task, files[name].questions(lm, tokens, longest=longest)[:count]
                continue
            for length in lengths:
                drawn = PLANTED[name].examples(lm, count, tokens=(length, length), seed=arguments.seed)
                yield f"{name}@{length}", [Question(example, longest) for example in drawn]

    _measure(arguments, tasks, {"lengths": lengths, "examples": count, "max_new_tokens": longest})


def _jsonl(arguments: argparse.Namespace) -> None:
    file = _File(arguments.data, arguments.skip_bad)
    _measure(
        arguments, lambda lm, tokens: [(file.task, file.questions(lm, tokens))], {"data": arguments.data}
    )


class _File:
    """JSON lines: read before the model is loaded, checked against it afterwards."""

    def __init__(self, name: str, skip_bad: bool) -> None:
        from judgeq.data.jsonl import read_json_lines

        self.path, self.skip_bad = Path(name), skip_bad
        self.lines, self.left_out = read_json_lines(self.path, skip_bad)

    @property
    def task(self) -> str:
        return self.path.stem

    def questions(self, lm: LanguageModel, tokens: SoftTokens | None, **options: Any) -> list[Question]:
        from judgeq.evaluation.files import questions_of

        questions = questions_of(lm, self.path, self.lines, tokens, skip_bad=self.skip_bad, **options)
        left_out = self.left_out + len(self.lines) - len(questions)
        if left_out:
            print(f"judgeq: {self.path}: lines left out: {left_out:,}", file=sys.stderr)
        return questions


def _measure(arguments: argparse.Namespace, tasks: Tasks, settings: dict[str, Any]) -> None:
    """Let the methods answer the questions of every task, and report."""
    from judgeq.evaluation.answers import answer_all, with_gaps
    from judgeq.methods.parsing import methods_from_text
    from judgeq.training.progress import Bars

    methods = methods_from_text(arguments.methods)
    budgets = _budgets(arguments.budgets, arguments.per)
    lm = load_model(arguments)
    tokens = _soft_tokens(lm, methods.values(), arguments.tokens)
    asked = list(tasks(lm, tokens))
    for question in (question for _, questions in asked for question in questions):
        question.input_ids(lm, tokens)  # a late task's mistake would cost the work on the early ones
    rows: list[dict[str, Any]] = []
    with Bars() as bars:
        for task, questions in asked:
            answered = answer_all(
                lm,
                questions,
                list(methods.values()),
                budgets,
                tokens=tokens,
                names=list(methods),
                progress=partial(bars.advance, task),
            )
            rows += with_gaps([row for each in answered for row in each.to_rows(task, arguments.seed)])
    _report(arguments, lm, tokens, {**settings, "per": arguments.per, "seed": arguments.seed}, rows)


def _length(text: str) -> int:
    if not text.strip().isdigit():
        raise InputError(f"The length {text!r} is not a number of tokens: give some such as 1000")
    return int(text)


def _budgets(text: str, per: int | None = None) -> list[Budget]:
    """Budgets as typed; with `per`, rows for every `per` tokens of prompt become shares."""
    budgets = [parse_budget(part) for part in text.split(",")]
    if per is None:
        return budgets
    check_at_least("evaluate", "per", per, 1)
    if any(isinstance(budget, float) for budget in budgets):
        raise InputError("Budgets with --per are rows: give whole numbers such as 64, or leave --per out")
    return [check_budget(budget / per) for budget in budgets]


def _soft_tokens(lm: LanguageModel, methods: Iterable[Method], name: str | None) -> SoftTokens | None:
    """Soft tokens, where a method asks with them or needs their profile."""
    from judgeq.soft_tokens import SoftTokens

    needed = any(method.probe == "soft" or method.selection.needs_profile for method in methods)
    return SoftTokens.for_model(lm, name) if needed else None


def _report(
    arguments: argparse.Namespace,
    lm: LanguageModel,
    tokens: SoftTokens | None,
    settings: dict[str, Any],
    rows: Sequence[dict[str, Any]],
) -> None:
    if arguments.json != "-":
        _print_table(rows)
    write_json(
        arguments.json,
        {
            "model": lm.name,
            "tokens": tokens.config.recipe if tokens else None,
            "settings": settings,
            "judgeq_version": __version__,
            "rows": rows,
        },
    )


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    """A block for each task, a line for each method and budget."""
    width = max(len(row["method"]) for row in rows)
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in rows):
        of_task = [row for row in rows if (row["task"], row["metric"]) == (task, metric)]
        print(f"{task}: {metric}, n = {max(row['n'] for row in of_task)}")
        for row in of_task:
            print(f"  {row['method']:{width}} {row['budget']!s:>6}  {row['score']:.3f}{_details(row)}")


def _details(row: dict[str, Any]) -> str:
    if "interval" not in row:
        return ""
    low, high = row["interval"]
    gap = row.get("gap_closed")
    closed = "" if gap is None else f"  gap closed {gap:.0%}"
    return f"  [{low:.3f}, {high:.3f}]  as full {row['as_full']:.0%}{closed}"
