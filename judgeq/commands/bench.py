"""`judgeq bench`: how long things take, compared within one run."""

from __future__ import annotations

import argparse

from judgeq._version import __version__
from judgeq.commands import speed
from judgeq.commands.common import add_common, load_model, write_json


def add(parser: argparse.ArgumentParser) -> None:
    speed.add(parser)
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", title="instead of answers")
    step = kinds.add_parser("step", help="a training step with and without stored rows")
    step.set_defaults(run=_step)
    add_common(step)
    step.add_argument(
        "--lengths",
        default="512,1024,2048",
        metavar="N,M",
        help="tokens of the documents (default: %(default)s)",
    )
    step.add_argument("--rounds", type=int, default=5, metavar="N", help="(default: %(default)s)")


def _step(arguments: argparse.Namespace) -> None:
    from judgeq.config import check_at_least, parse_budget
    from judgeq.training.bench import step_times
    from judgeq.training.config import TrainConfig

    check_at_least("bench", "rounds", arguments.rounds, 1)
    lengths = [int(parse_budget(text)) for text in arguments.lengths.split(",")]
    lm = load_model(arguments)
    rows = []
    for length in lengths:
        times = step_times(lm, TrainConfig(seed=arguments.seed), length, arguments.rounds)
        rows.append(
            {
                "prompt_tokens": times.prompt_tokens,
                "stored_s": round(times.stored, 4),
                "recomputed_s": round(times.recomputed, 4),
                "ratio": round(times.ratio, 2),
                "rounds": times.rounds,
            }
        )
        if arguments.json != "-":
            print(
                f"{times.prompt_tokens:>6,} tokens: {times.stored:.2f} s a step with stored rows, "
                f"{times.recomputed:.2f} s without, {times.ratio:.1f} times as long"
            )
    write_json(arguments.json, {"model": lm.name, "judgeq_version": __version__, "rows": rows})
