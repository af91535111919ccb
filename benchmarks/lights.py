"""What lights cost the demo: its own runs write the same answers with what each token attends to, and without, in turn.

CPU time of the thread that writes, so that other work on the machine counts little:

python -m benchmarks.lights --rounds 3 --json lights.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from judgeq._version import versions
from judgeq.cli import run
from judgeq.commands.common import add_common, add_number, add_option, command_of, finish, load_model
from judgeq.config import check_at_least

if TYPE_CHECKING:
    from app.server.host import ModelHost
    from app.server.run import Run
    from app.server.task import Task
    from judgeq.evaluation.attended_cost import AttendedTimes

QUESTION = "What is this text about?"
"""Its answers are long."""


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lights", description="What lights cost the demo, a token and an update."
    )
    parser.set_defaults(run=measure)
    add_common(parser)
    add_option(parser, "--methods", "A,B", "as the demo names them", "full,judgeq,snapkv")
    add_number(parser, "--max-new-tokens", "tokens of each answer", 64)
    add_number(parser, "--rounds", "how often the answers are written", 3)
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    from app.sections.ask.callbacks import TICK
    from app.server.host import ModelHost
    from app.server.samples import samples
    from app.server.task import Task

    for name, least in (("max_new_tokens", 8), ("rounds", 1)):
        check_at_least("lights", name, getattr(arguments, name), least)
    lm = load_model(arguments)
    host = ModelHost(lm.name, load=lambda name, progress: lm)
    host.model()
    methods = tuple(arguments.methods.split(","))
    task = Task(samples()[0].document, QUESTION, methods, max_new_tokens=arguments.max_new_tokens)
    times, updates = measured(host, task, arguments.rounds)
    rows = [each.row() for each in times]
    with_s, without_s = (median(each) for each in zip(*updates, strict=True))
    result = {
        "model": lm.name,
        "settings": {"max_new_tokens": arguments.max_new_tokens, "rounds": arguments.rounds},
        "command": command_of(arguments.words, module="benchmarks.lights"),
        "versions": versions(("torch", "transformers")),
        "rows": rows,
        "update": {"every_s": TICK, "lit_s": round(with_s, 5), "dark_s": round(without_s, 5)},
    }
    lines = [
        f"{row['label']:8}  {1000 * row['token_s']:7.2f} ms a token, {row['ratio'] - 1:+.1%} with lights "
        f"(half of {row['pairs']} pairs from {row['ratio_low'] - 1:+.1%} to {row['ratio_high'] - 1:+.1%})"
        for row in rows
    ]
    lines.append(f"An update of the cards, every {TICK} s: {1000 * (with_s - without_s):+.2f} ms with lights")
    finish(arguments, result, *lines)


def measured(host: ModelHost, task: Task, rounds: int) -> tuple[list[AttendedTimes], list[tuple[float, float]]]:
    """Seconds of every token by method, and of the cards' updates, each with lights and without."""
    from app.sections.ask.cards import run_cards
    from app.server.run import Run
    from judgeq.evaluation.attended_cost import WARM_UP, AttendedTimes

    class Dark(Run):
        def _reader(self, lm: Any) -> Callable[..., Any]:
            read = super()._reader(lm)
            return lambda question, **options: read(question, **{**options, "attended": False})

    times = {method: AttendedTimes(method) for method in task.methods}
    updates = list[tuple[float, float]]()
    for _ in range(rounds):
        pair = Run(task, host), Dark(task, host)
        works = [each.answering(host.model()) for each in pair]
        with closing(works[0]), closing(works[1]):
            for work in works:
                next(work)
            for number in range(task.max_new_tokens * len(pair[0].lanes)):
                known = _lengths(pair[0])
                seconds = {at: _seconds(partial(next, works[at], None)) for at in (number % 2, 1 - number % 2)}
                written = [at for at, count in enumerate(_lengths(pair[0])) if count > known[at]]
                if not written:
                    break
                if known[written[0]] >= WARM_UP:
                    own = times[pair[0].lanes[written[0]].method]
                    own.with_s.append(seconds[0])
                    own.without_s.append(seconds[1])
                    lit, dark = (_seconds(partial(run_cards, each)) for each in pair)
                    updates.append((lit, dark))
    return list(times.values()), updates


def _lengths(run: Run) -> list[int]:
    return [len(lane.seconds) for lane in run.lanes]


def _seconds(call: Callable[[], Any]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


if __name__ == "__main__":
    sys.exit(main())
