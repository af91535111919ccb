"""`judgeq ablation`: training runs side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from judgeq._version import __version__
from judgeq.commands.common import write, write_json


def add(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=run)
    parser.add_argument(
        "runs", nargs="+", metavar="DIR", help="folders that `train` wrote; the first is the base"
    )
    parser.add_argument("--figure", metavar="FILE.png", help="draw the hit rates; - for standard output")
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON; - for standard output")


def run(arguments: argparse.Namespace) -> None:
    from judgeq.training.ablation import compare_runs, draw_runs

    table = {"judgeq_version": __version__} | compare_runs([Path(folder) for folder in arguments.runs])
    if arguments.figure:
        write(arguments.figure, draw_runs(table))
    write_json(arguments.json, table)
    if "-" not in (arguments.json, arguments.figure):
        for row in table["rows"]:
            rates = "  ".join(f"{rate:.3f}" for rate in row["hit_rate"].values())
            print(f"{rates}  {row['parameters']:>10,}  {row['run']}")
