"""How long a start takes: fresh processes that import the library, load a model and end.

python -m benchmarks.start --rounds 3 --json start.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from judgeq._version import versions
from judgeq.cli import run
from judgeq.commands.common import add_common, add_number, command_of, finish
from judgeq.config import check_at_least
from judgeq.errors import InputError

_STARTING = """
import json, sys, time
begun = time.perf_counter()
import torch
with_torch = time.perf_counter()
import judgeq
imported = time.perf_counter()
judgeq.load(**json.loads(sys.argv[1]))
loaded = time.perf_counter()
print(json.dumps([with_torch - begun, imported - with_torch, loaded - imported]))
"""


PARTS = ("torch_s", "import_s", "load_s")
"""Seconds of `import torch`, of `import judgeq` after it, and of `judgeq.load`, which imports transformers."""


def start(**model: Any) -> dict[str, float]:
    """One start, in a fresh process of this Python: seconds of `PARTS`.

    Args:
        model: what `judgeq.load` is called with, as JSON can hold it.

    Raises:
        InputError: the process failed, with its last words.
    """
    path = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]  # this judgeq
    ran = subprocess.run(
        [sys.executable, "-c", _STARTING, json.dumps(model)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        said = ran.stderr.strip().splitlines() or ["nothing"]
        raise InputError(f"The model could not be loaded in a process of its own; it said: {said[-1]}")
    return dict(zip(PARTS, json.loads(ran.stdout.splitlines()[-1]), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and write the result; returns the exit code."""
    return run(parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.start",
        description="Importing the library and loading the model, in fresh processes.",
    )
    parser.set_defaults(run=measure)
    add_common(parser)
    add_number(parser, "--rounds", "how often the start is measured", 5)
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    check_at_least("start", "rounds", arguments.rounds, 1)
    model = {"name": arguments.model, "quantization": arguments.quantization, "dtype": arguments.dtype}
    start(**model)  # the first one finds files that were not read for long, and may have to unpack them
    starts = [start(**model) for _ in range(arguments.rounds)]
    rounds = [{part: round(seconds, 4) for part, seconds in each.items()} for each in starts]
    result = {
        "model": arguments.model,
        "command": command_of(arguments.words, module="benchmarks.start"),
        "versions": versions(("torch", "transformers")),
        "rounds": rounds,
    }
    torch_s, import_s, load_s = (median(each[part] for each in starts) for part in PARTS)
    said = (
        f"import torch {torch_s:.2f} s, import judgeq after it {import_s:.2f} s, "
        f"then load {arguments.model} {load_s:.2f} s (medians of {arguments.rounds} starts)"
    )
    finish(arguments, result, said)


if __name__ == "__main__":
    sys.exit(main())
