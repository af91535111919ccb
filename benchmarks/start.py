"""How long a start takes: fresh processes that import the library and load a model, or that answer in the demo.

python -m benchmarks.start --rounds 3 --demo --json start.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import httpx

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
DEMO_PARTS = ("page_s", "answer_s")
"""Seconds from the start of app.py until its page is served, with stored answers, and then until it has answered a
question of one's own, for which the model must be loaded."""
ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "assets" / "samples" / "lighthouse.txt"
QUESTION = "Who keeps the light?"
PATIENCE_S = 600.0


def start(**model: Any) -> dict[str, float]:
    """One start, in a fresh process of this Python: seconds of `PARTS`.

    Args:
        model: what `judgeq.load` is called with, as JSON can hold it.

    Raises:
        InputError: the process failed, with its last words.
    """
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]  # this judgeq
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


def demo(**model: str | None) -> dict[str, float]:
    """One start of the demo, in a fresh process of this Python: seconds of `DEMO_PARTS`.

    Args:
        model: options of app.py.

    Raises:
        InputError: it does not answer.
    """
    from gradio_client import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [word for name, value in model.items() if value for word in (f"--{name}", value)]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *words],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}", process)
        page = time.perf_counter()
        client = Client(f"http://127.0.0.1:{port}", verbose=False)
        client.predict(DOCUMENT.read_text(encoding="utf-8"), QUESTION, "judgeq", "128", api_name="/ask")
        return dict(zip(DEMO_PARTS, (page - begun, time.perf_counter() - page), strict=True))
    finally:
        process.terminate()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until there is a page.

    Raises:
        InputError: the process has ended, or it takes too long.
    """
    for _ in range(int(PATIENCE_S / 0.05)):
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        time.sleep(0.05)
    raise InputError("The demo could not be started: python app.py says why")


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
    parser.add_argument("--demo", action="store_true", help="measure the demo's start, too")
    return parser


def measure(arguments: argparse.Namespace) -> None:
    """What the command does."""
    check_at_least("start", "rounds", arguments.rounds, 1)
    model = {"name": arguments.model, "quantization": arguments.quantization, "dtype": arguments.dtype}
    rounds = _rounds(arguments.rounds, start, PARTS, model)
    torch_s, import_s, load_s = (median(each[part] for each in rounds) for part in PARTS)
    said = [
        f"import torch {torch_s:.2f} s, import judgeq after it {import_s:.2f} s, "
        f"then load {arguments.model} {load_s:.2f} s (medians of {arguments.rounds} starts)"
    ]
    result = {
        "model": arguments.model,
        "command": command_of(arguments.words, module="benchmarks.start"),
        "versions": versions(("torch", "transformers")),
        "rounds": rounds,
    }
    if arguments.demo:
        result["demo_rounds"] = _rounds(arguments.rounds, demo, DEMO_PARTS, {"model": model.pop("name"), **model})
        page, answer = (median(each[part] for each in result["demo_rounds"]) for part in DEMO_PARTS)
        said.append(f"the demo's page after {page:.2f} s, a question of one's own answered {answer:.2f} s later")
    finish(arguments, result, *said)


def _rounds(
    count: int, measured: Callable[..., Mapping[str, float]], parts: Sequence[str], model: Mapping[str, Any]
) -> list[dict[str, float]]:
    """Seconds of each start after a first one, which may have to unpack the model and reads files not read for long."""
    measured(**model)
    starts = [measured(**model) for _ in range(count)]
    return [{part: round(each[part], 4) for part in parts} for each in starts]


if __name__ == "__main__":
    sys.exit(main())
