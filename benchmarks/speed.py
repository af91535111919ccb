"""`judgeq bench` with kvpress: its SnapKV and the transformers there, which wait in an environment of their own.

python -m benchmarks.speed --python kvpress-env/bin/python --json bench.json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from benchmarks import kvpress_server
from benchmarks.peers import KVPRESS, Server, model_folder, serving
from judgeq.cli import run
from judgeq.commands import bench
from judgeq.commands.common import add_common, add_option
from judgeq.commands.measuring import read_budgets
from judgeq.config import Budget, budget_rows
from judgeq.evaluation.speed import StepTiming

SNAPKV, ALONE = "kvpress snapkv", "kvpress' transformers"
"""Methods: SnapKV as kvpress has it, and plain transformers in that environment."""


@dataclass
class Peer:
    """SnapKV of kvpress, or transformers there.

    Attributes:
        rows: per KV head; 0 is transformers alone.
    """

    server: Server
    label: str
    method: str
    budget: Budget
    rows: int

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        rows = self.rows if self.rows < ids.shape[1] else 0  # the warm-up's prompt is short
        return StepTiming(**self.server.ask(ids=ids[0].tolist(), budget=rows, tokens=tokens))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="First token, later tokens and memory of methods, and kvpress' times for the same prompt.",
    )
    parser.set_defaults(run=measure, random_weights=None)
    meaning = f"Python of an environment with {KVPRESS.requirement}"
    add_option(parser, "--python", "FILE", meaning, required=True)
    add_common(parser)
    bench.add_speed(parser)
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    budgets, folder = read_budgets(arguments.budgets), str(model_folder(arguments.model).resolve())
    with serving(KVPRESS, arguments.python, kvpress_server.__file__, folder) as server:
        peers = [Peer(server, ALONE, ALONE, 1.0, 0)]
        for budget in budgets:
            rows = budget_rows(budget, arguments.prompt_tokens)
            peers.append(Peer(server, f"{SNAPKV}@{budget}", SNAPKV, budget, rows))
        bench.run(arguments, peers, "benchmarks.speed", kvpress=server.about)


if __name__ == "__main__":
    sys.exit(main())
