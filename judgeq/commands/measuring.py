"""What the kinds of `judgeq evaluate` share: the run over questions, tables and results files."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judgeq._version import versions
from judgeq.commands.common import command_of, finish, load_model
from judgeq.config import Budget, check_at_least, check_budget, parse_budget
from judgeq.console import say
from judgeq.errors import InputError
from judgeq.output import check_file, lies_on_disk

if TYPE_CHECKING:
    from judgeq.evaluation.journal import Journal
    from judgeq.evaluation.questions import Task
    from judgeq.methods import Method
    from judgeq.models.language_model import LanguageModel
    from judgeq.soft_tokens.soft_tokens import SoftTokens
    from judgeq.training.progress import Progress
    from judgeq.training.workers import Workers

    Tasks = Callable[[LanguageModel, SoftTokens | None], Iterable[Task]]

PACKAGES = ("torch", "transformers", "lm_eval")
"""Packages whose versions are written to a results file."""


def read_numbers(text: str, what: str) -> list[int]:
    """Whole numbers above 0, separated by commas."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not part.isdigit() or not int(part):
            raise InputError(f"The {what} {part!r} is not a number of tokens: give some such as 1000")
    return [int(part) for part in parts]


def read_budgets(text: str, per: int | None = None) -> list[Budget]:
    """Budgets as typed; with `per`, rows for every `per` tokens of prompt become shares."""
    budgets = [parse_budget(part) for part in text.split(",")]
    if per is None:
        return budgets
    check_at_least("evaluate", "per", per, 1)
    if any(isinstance(budget, float) for budget in budgets):
        raise InputError("Budgets with --per are rows: give whole numbers such as 64, or leave --per out")
    return [check_budget(budget / per) for budget in budgets]


def soft_tokens(
    lm: LanguageModel, methods: Iterable[Method], name: str | None, question: str = "known"
) -> SoftTokens | None:
    """Soft tokens, where a method asks with them or needs their profile; `question` as in `SoftTokens.for_model`."""
    from judgeq.soft_tokens.soft_tokens import SoftTokens

    if not any(method.uses_soft_tokens for method in methods):
        return None
    return SoftTokens.for_model(lm, name, question=question)


def load_shared(arguments: argparse.Namespace, workers: Workers) -> LanguageModel:
    """The model, on this process's own device where there are several processes."""
    return load_model(arguments, workers.device) if workers.count > 1 else load_model(arguments)


@contextlib.contextmanager
def bars_of(workers: Workers) -> Iterator[Progress]:
    """Progress bars of the first process; the others show none."""
    from judgeq.training.progress import Bars, Progress

    if workers.rank > 0:
        yield Progress()
        return
    with Bars() as bars:
        yield bars


def measure(arguments: argparse.Namespace, tasks: Tasks, settings: dict[str, Any], *, skip_long: bool = False) -> None:
    """Let the methods answer the questions of every task, and report.

    Args:
        tasks: called with the model and the soft tokens.
        settings: what else is written to the results file.
        skip_long: leave out prompts that the model cannot read, and say how many.
    """
    from judgeq.evaluation.journal import Journal
    from judgeq.evaluation.shared_journal import check_file_for
    from judgeq.prompts.prompt import dated, now
    from judgeq.training.workers import Workers

    workers, path = Workers(), journal_path(arguments)
    check_file_for(workers, path)
    with dated(workers.agree(Journal.begun(path) or now())):
        _measure(arguments, tasks, settings, skip_long, path, workers)


def _measure(
    arguments: argparse.Namespace,
    tasks: Tasks,
    settings: dict[str, Any],
    skip_long: bool,
    path: Path | None,
    workers: Workers,
) -> None:
    from judgeq.evaluation import results, runner
    from judgeq.methods.parsing import methods_from_text

    given = {} if arguments.memory is None else {"memory": arguments.memory}
    methods = methods_from_text(arguments.methods, **given)
    asked = runner.asked_of(methods, read_budgets(arguments.budgets, arguments.per))
    if arguments.minutes is not None:
        check_at_least("evaluate", "minutes", arguments.minutes, 0)
    lm = load_shared(arguments, workers)
    question = "unknown" if getattr(arguments, "question", None) == "unknown" else "known"
    tokens = soft_tokens(lm, methods.values(), arguments.tokens, question)
    asked_tasks = list(tasks(lm, tokens))
    journal = open_journal(path, arguments, lm, tokens, workers)
    with bars_of(workers) as bars:
        measured = runner.run(
            lm,
            asked_tasks,
            asked,
            tokens=tokens,
            journal=journal,
            workers=workers,
            skip_long=skip_long,
            seconds=None if arguments.minutes is None else 60 * arguments.minutes,
            progress=partial(bars.advance, "questions"),
        )
    if workers.rank > 0:
        return
    cells = results.cells_of(measured)
    readable, answered = (sum(len(getattr(each, name)) for each in measured) for name in ("questions", "answers"))
    if not answered:
        raise InputError(f"{lm.name} has answered nothing: give prompts that it can read, or more --minutes")
    skipped = {each.task.label: each.skipped for each in measured if each.skipped}
    for label, count in skipped.items():
        say(f"judgeq: {label}: prompts too long for {lm.name}, left out: {count:,}\n")
    if answered < readable:
        say(f"judgeq: {answered:,} of {readable:,} questions answered; run it again to resume\n")
    report(
        arguments,
        lm,
        tokens,
        {**settings, "per": arguments.per, "seed": arguments.seed},
        results.rows_of(cells, asked, arguments.seed),
        complete=answered == readable,
        answered=answered,
        asked=readable,
        skipped=skipped,
        notes=results.notes_of(measured),
        questions=results.questions_of(measured),
        differences=results.differences_of(cells, asked, arguments.seed),
        moved=results.moved_of(cells, asked, arguments.seed),
    )


def report(
    arguments: argparse.Namespace,
    lm: LanguageModel,
    tokens: SoftTokens | None,
    settings: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    **more: Any,
) -> None:
    """Print a table, or write a results file, or both."""
    from judgeq.evaluation.report.read import FORMAT
    from judgeq.evaluation.setup import setup_of

    setup = setup_of(lm, tokens, lm.precision)
    result = {
        "format": FORMAT,
        "model": lm.name,
        "precision": lm.precision,
        "tokens": tokens.config.recipe if tokens else None,
        "settings": {**settings, "command": command_of(arguments.words)},
        "setup": {name: value for name, value in setup.items() if name not in ("model", "precision")},
        "versions": versions(PACKAGES),
        **more,
        "rows": rows,
    }
    finish(arguments, result, *_table(rows))


def journal_path(arguments: argparse.Namespace) -> Path | None:
    """Beside the results file; None, which is memory, where there is none.

    Raises:
        InputError: no journal can be written there.
    """
    if arguments.json in (None, "-") or not lies_on_disk(arguments.json):
        return None
    path = Path(arguments.json).with_suffix(".items.jsonl")
    check_file(path)
    return path


def open_journal(
    path: Path | None,
    arguments: argparse.Namespace,
    lm: LanguageModel,
    tokens: SoftTokens | None,
    workers: Workers,
) -> Journal:
    """The answers so far, of all `workers`; says what an older file does not."""
    from judgeq.evaluation import shared_journal
    from judgeq.evaluation.setup import setup_of, taken_for_granted

    setup = setup_of(lm, tokens, _precision(arguments, lm))
    journal = shared_journal.open_journal(path, setup, taken_for_granted(lm, setup), workers)
    if journal.unsaid:
        say(f"judgeq: {path} does not say its {', '.join(journal.unsaid)}: taken to be those of this run\n")
    return journal


def _precision(arguments: argparse.Namespace, lm: LanguageModel) -> str:
    """`"float32"`, `"4bit"`, or `"4bit, bfloat16"` where a type was named for what quantized weights compute in."""
    computed = str(lm.dtype).removeprefix("torch.")
    if arguments.quantization is None:
        return computed
    return arguments.quantization if arguments.dtype in (None, "auto") else f"{arguments.quantization}, {computed}"


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A block for each task, a line for each method and budget."""
    width = max(len(row["method"]) for row in rows)
    for task, metric in dict.fromkeys((row["task"], row["metric"]) for row in rows):
        of_task = [row for row in rows if (row["task"], row["metric"]) == (task, metric)]
        yield f"{task}: {metric}, n = {max(row['n'] for row in of_task)}"
        for row in of_task:
            yield f"  {row['method']:{width}} {row['budget']!s:>6}  {row['score']:.3f}{_details(row)}"


def _details(row: dict[str, Any]) -> str:
    if "interval" not in row:
        return ""
    low, high = row["interval"]
    gap, same, held = row.get("gap_closed"), row.get("as_full"), row.get("kv_bytes")
    closed = "" if gap is None else f"  gap closed {gap:.0%}"
    lost = "" if row.get("lost") is None else f"  lost everywhere {row['lost']:.0%}"
    size = "" if held is None else f"  {held / 1e6:.2f} MB"
    return f"  [{low:.3f}, {high:.3f}]{lost}{size}{'' if same is None else f'  as full {same:.0%}'}{closed}"
