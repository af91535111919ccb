"""RULER in kvpress' own pipeline: its presses and Judge Q's, the question known and unknown.

    python -m benchmarks.pipeline --python kvpress-env/bin/python --lengths 1024 --examples 2 --json pipeline.json

kvpress runs in another environment, as `kvpress_server.py`, with its template, its greedy loop and its presses'
defaults. Here questions are made and answers scored. *Known*: the question is the end of the context that is
compressed; *unknown*: kvpress' way, which shows it afterwards. What follows the question in the chat template is read
after the compression in both. A run that was killed is resumed.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import kvpress_server
from benchmarks.peers import KVPRESS, Server, model_folder, serving
from judgeq._version import versions
from judgeq.cli import run
from judgeq.commands.common import (
    add_json,
    add_number,
    add_option,
    command_of,
    finish,
)
from judgeq.commands.measuring import journal_path, read_budgets, read_numbers
from judgeq.config import check_at_least
from judgeq.errors import InputError
from judgeq.evaluation import results
from judgeq.evaluation.journal import Journal, Rated
from judgeq.evaluation.report.read import FORMAT
from judgeq.evaluation.runner import WHOLE, Asked, Measured
from judgeq.evaluation.setup import setup_of
from judgeq.methods.parsing import method_from_text
from judgeq.models import DEFAULT_MODEL
from judgeq.training.progress import Bars

if TYPE_CHECKING:
    from judgeq.evaluation.questions import Question, Task


FAILED = "(no answer)"
"""In the place of an answer that kvpress could not write, or that is empty; its score is that of an empty one."""


@dataclass(frozen=True)
class Press:
    """A press, by the name of our method that means the same.

    Attributes:
        name: class of kvpress, or `JudgeQPress`; empty for the full cache.
        heads_compete: within kvpress' AdaKVPress.
        replays: it reads the context again, which is for contexts without the question.
    """

    ours: str
    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    heads_compete: bool = False
    replays: bool = False

    def at(self, ratio: float) -> dict[str, Any] | None:
        """What the other environment makes of it, to remove this share of the rows; None = the full cache."""
        if not self.name:
            return None
        how = {"options": self.options, "heads_compete": self.heads_compete}
        return {"name": self.name, "ratio": ratio, **how}


PRESSES = (
    Press("full"),
    Press("judgeq:memory=0", "JudgeQPress"),
    Press("judgeq:memory=0:allocation=adakv", "JudgeQPress", heads_compete=True),
    Press("snapkv", "SnapKVPress"),
    Press("snapkv:allocation=adakv", "SnapKVPress", heads_compete=True),
    Press("expectedattention", "ExpectedAttentionPress"),
    Press("tova", "TOVAPress"),
    Press("streamingllm", "StreamingLLMPress"),
    Press("keynorm", "KnormPress"),
    Press("kvzip", "KVzipPress", replays=True),
)


@dataclass(frozen=True)
class Pressed(Asked):
    """A press at one share of the rows."""

    press: Press = PRESSES[0]

    @property
    def made(self) -> str:
        return hashlib.sha256(repr((self.press.name, self.press.heads_compete)).encode()).hexdigest()[:8]

    def ask(self, server: Server, question: Question, longest: int) -> Rated:
        """The answer to a question, scored."""
        example = question.example
        context, asked = question.unknown or ("\n".join(each.content for each in example.messages), "")
        written = server.ask(
            context=context,
            question=f"\n{asked}" if asked else "",
            answer_prefix=example.answer_prefix,
            max_new_tokens=min(question.max_new_tokens, longest),
            press=self.press.at(1 - float(self.budget)),
        )
        text = written.get("text", "")
        return Rated(text or FAILED, question.score(text), made=self.made)


CASES = {"known": (False,), "unknown": (True,), "both": (False, True)}
"""Whether the question is unknown, by what `--question` says."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipeline",
        description="RULER in kvpress' own pipeline, with its presses and Judge Q's.",
    )
    parser.set_defaults(run=measure)
    add_option(parser, "--python", "FILE", f"Python of an environment with {KVPRESS.requirement}", required=True)
    add_option(parser, "--model", "NAME", "embedded name or folder with safetensors", DEFAULT_MODEL)
    add_option(parser, "--tokens", "DIR", "folder with soft tokens; those shipped for the model by default")
    meaning = "known, unknown, or both with one set of soft tokens (default: %(default)s)"
    parser.add_argument("--question", choices=tuple(CASES), default="both", help=meaning)
    add_option(parser, "--tasks", "NAMES", "of RULER; by default those that need no download")
    add_option(parser, "--lengths", "N,M", "tokens of each prompt", "1024")
    add_option(parser, "--budgets", "N,M", "shares of the context that are kept", "0.0625,0.125,0.25")
    add_number(parser, "--examples", "questions of each task and length", 2)
    add_number(parser, "--max-new-tokens", "tokens of an answer at most, and no more than RULER gives it", 128)
    parser.add_argument("--minutes", type=float, metavar="N", help="ask nothing new after that time")
    add_number(parser, "--seed", "of every choice", 0)
    add_json(parser)
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    from judgeq.evaluation.harness import RULER_GENERATED, RULER_TASKS, benchmark_names, ruler_tasks
    from judgeq.models.loading import load
    from judgeq.soft_tokens.soft_tokens import SoftTokens, shipped_for

    for name in ("examples", "max_new_tokens"):
        check_at_least("pipeline", name, getattr(arguments, name), 1)
    budgets = read_budgets(arguments.budgets)
    if any(isinstance(budget, int) for budget in budgets):
        raise InputError("kvpress removes a share of the rows: give --budgets such as 0.25")
    names = benchmark_names(arguments.tasks or ",".join(RULER_GENERATED), RULER_TASKS)
    lengths, count, seed = read_numbers(arguments.lengths, "length"), arguments.examples, arguments.seed
    path, folder = journal_path(arguments), str(model_folder(arguments.model).resolve())
    lm = load(arguments.model, dtype="float32")
    place = "unknown" if arguments.question == "unknown" else "known"
    tokens = SoftTokens.for_model(lm, arguments.tokens, question=place)
    presses = _presses(Path(arguments.tokens or shipped_for(lm, place)))
    tasks = {
        unknown: ruler_tasks(lm, names, lengths, count, seed=seed, question_unknown=unknown)
        for unknown in CASES[arguments.question]
    }
    script = kvpress_server.__file__
    with serving(KVPRESS, arguments.python, script, folder) as server, Bars() as bars:
        theirs = {name: server.about[name] for name in ("kvpress", "torch", "transformers")}
        setup = {**setup_of(lm, tokens, lm.precision), **theirs}
        journal = Journal(path, setup)
        ends = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
        asked = {unknown: _asked(presses, budgets, unknown) for unknown in tasks}
        turns = [
            (question, each.label, unknown)
            for at in range(count)
            for unknown, of_kind in tasks.items()
            for each in of_kind
            for question in each.questions[at : at + 1]
        ]
        for done, (question, label, unknown) in enumerate(turns, 1):
            for each in asked[unknown]:
                if each.is_answered(journal.answers(question.key)):
                    continue
                if ends is not None and time.monotonic() > ends:
                    break
                rated = each.ask(server, question, arguments.max_new_tokens)
                journal.add(question.key, label, {each.name: rated})
            bars.advance("questions", done, len(turns))
    found: dict[str, list[dict[str, Any]]] = {"rows": [], "differences": []}
    measured: list[Measured] = []
    for unknown, of_kind in tasks.items():
        own = [_measured(each, asked[unknown], journal) for each in of_kind]
        cells = results.cells_of([each for each in own if each.answers])
        found["rows"] += results.rows_of(cells, asked[unknown], seed)
        found["differences"] += results.differences_of(cells, asked[unknown], seed)
        measured += own
    answered = sum(len(each.answers) for each in measured)
    if not answered:
        raise InputError("No question has all its answers yet: give more --minutes, and run it again to resume")
    result = {
        "format": FORMAT,
        "model": lm.name,
        "precision": "float32",
        "tokens": tokens.config.recipe,
        "settings": {
            "tasks": names,
            "lengths": lengths,
            "examples": count,
            "max_new_tokens": arguments.max_new_tokens,
            "seed": seed,
            "presses": {each.ours: _shown(each) for each in presses},
            "command": command_of(arguments.words, module="benchmarks.pipeline"),
        },
        "setup": {name: value for name, value in setup.items() if name not in ("model", "precision")},
        "versions": {**versions(("lm_eval",)), **server.about},
        "complete": answered == len(turns),
        "answered": answered,
        "asked": len(turns),
        "notes": results.notes_of(measured),
        "questions": results.questions_of(measured),
        **found,
    }
    finish(
        arguments,
        result,
        *(f"{row['task']:32} {row['method']:32} {row['budget']:6} {row['score']:.3f}" for row in found["rows"]),
    )


def _presses(soft_tokens: Path) -> list[Press]:
    """All of them; Judge Q's with its soft tokens."""
    return [
        replace(each, options={"folder": str(soft_tokens.resolve())}) if each.name == "JudgeQPress" else each
        for each in PRESSES
    ]


def _asked(presses: Sequence[Press], budgets: Sequence[Any], unknown: bool) -> list[Pressed]:
    return [
        Pressed(each.ours, method_from_text(each.ours), budget, each)
        for each in presses
        if unknown or not each.replays
        for budget in (budgets if each.name else [WHOLE])
    ]


def _measured(task: Task, asked: Sequence[Pressed], journal: Journal) -> Measured:
    """The answers to a task's questions that all presses have answered, as a benchmark of its own."""
    known = {at: journal.answers(question.key) for at, question in enumerate(task.questions)}
    whole = {at: answers for at, answers in known.items() if all(each.is_answered(answers) for each in asked)}
    named = replace(task, name=task.name.replace("ruler", "kvpress", 1))
    return Measured(named, dict(enumerate(task.questions)), whole)


def _shown(press: Press) -> str:
    """`AdaKVPress(JudgeQPress)`."""
    return f"AdaKVPress({press.name})" if press.heads_compete else press.name or "none"


if __name__ == "__main__":
    sys.exit(main())
