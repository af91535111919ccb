"""Two workers behind a balancer that share compressed documents, one of them killed: the example of docs/serving.md.

    python -m scripts.serving --haproxy haproxy --json assets/results/serving.json

Starts two demos of this checkout with `--documents` and haproxy before them, compresses a document into the shared
folder, asks through the balancer, kills a worker while it answers, asks on, and starts it again.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from judgeq.cli import run
from judgeq.commands.common import add_json, add_option, finish
from judgeq.errors import JudgeqError

ROOT = Path(__file__).resolve().parents[1]
BALANCER, WORKERS = 7860, {"a": 7861, "b": 7862}
"""Ports of this machine, as `haproxy.cfg` has them."""
DOCUMENT = ROOT / "assets" / "samples" / "lighthouse.txt"
QUESTIONS = ("What is the code of the oil store?", "Who keeps the light?")
TYPE = ("--dtype", "float32")
"""Of the document's rows and of every worker: with the demo's own choice they might differ."""
PATIENCE = 900.0
LONG = 200
"""Tokens of the answers during which a worker is killed."""


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(prog="python -m scripts.serving", description=(__doc__ or "").split("\n\n")[0])
    add_option(made, "--haproxy", "PROGRAM", "the balancer, as apt-get install haproxy brings it", "haproxy")
    add_json(made)
    made.set_defaults(run=_run)
    return made


def _run(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        stored = Path(folder) / "lighthouse"
        options = (
            "--query-agnostic",
            "--budget",
            "256",
            "--max-new-tokens",
            "1",
            "--save-document",
            str(stored),
            *TYPE,
        )
        asked = ("-m", "judgeq", "ask", "--document", str(DOCUMENT), "--question", QUESTIONS[0], *options)
        subprocess.run([sys.executable, *asked], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        size = sum(file.stat().st_size for file in stored.iterdir())

        def start(worker: str) -> subprocess.Popen[bytes]:
            words = ("app.py", "--port", str(WORKERS[worker]), "--documents", folder, *TYPE)
            return stack.enter_context(_running([sys.executable, *words]))

        processes = {worker: start(worker) for worker in WORKERS}
        stack.enter_context(_running([arguments.haproxy, "-f", str(ROOT / "scripts" / "haproxy.cfg")]))
        for port in WORKERS.values():
            _wait(port)
        events = [_ask(question) for question in QUESTIONS for _ in WORKERS]
        with ThreadPoolExecutor() as pool:
            running = [pool.submit(_ask, QUESTIONS[1], LONG) for _ in WORKERS]
            time.sleep(3)  # each worker writes one of the answers
            processes["a"].kill()
            events.append({"event": "worker a is killed while both answer"})
            events += [each.result() for each in running]
        events += [_ask(question) for question in QUESTIONS]
        start("a")
        _wait(WORKERS["a"])
        time.sleep(3)  # haproxy asks each second
        events.append({"event": "worker a is started again"})
        events += [_ask(question) for question in QUESTIONS for _ in WORKERS]
    result = {"document_bytes": size, "workers": list(WORKERS), "events": events}
    finish(
        arguments,
        result,
        *(", ".join(f"{name}: {value}" for name, value in event.items()) for event in events),
    )


def _ask(question: str, longest: int = 24) -> dict[str, Any]:
    """One question through the balancer."""
    url, body = (
        f"http://127.0.0.1:{BALANCER}/documents/lighthouse",
        {"question": question, "max_new_tokens": longest},
    )
    started = time.perf_counter()
    answer = httpx.post(url, json=body, timeout=PATIENCE, trust_env=False)
    found = answer.json() if answer.status_code == 200 else {}
    return {
        "question": question,
        "max_new_tokens": longest,
        "status": answer.status_code,
        "worker": answer.headers.get("X-Worker"),
        "answer": " ".join(found.get("answer", "").split())[:80],
        "seconds": round(time.perf_counter() - started, 1),
    }


@contextlib.contextmanager
def _running(words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait(port: int) -> None:
    """Until a worker's model is loaded."""
    for _ in range(int(PATIENCE)):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"http://127.0.0.1:{port}/documents", trust_env=False).status_code == 200:
                return
        time.sleep(1)
    raise JudgeqError(f"The worker at port {port} did not start: look at what `python app.py` says there")


if __name__ == "__main__":
    sys.exit(run(parser()))
