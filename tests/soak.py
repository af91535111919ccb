"""Hundreds of runs on a tiny model, through the page's callbacks, with the process's memory measured on the way.

`python -m tests.soak` writes `assets/results/soak.json`; `--runs 30` does fewer, `--out` writes elsewhere.

Resident memory is that of an allocator, which gives back what it likes. What is alive is counted beside it.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from app.endpoints import Endpoints
from app.sections.ask import callbacks as do
from app.sections.kept.callbacks import show_document
from app.server.host import ModelHost
from app.server.run import Run
from judgeq import __version__
from judgeq._assets import assets_path
from judgeq.methods import question_methods
from judgeq.models.language_model import LanguageModel
from tests.fixtures import build_model, build_tokenizer
from tests.server import DOCUMENT, QUESTION, tiny_host
from tests.waiting import PATIENCE_S

METHOD_SETS = (["full", "judgeq", "snapkv"], question_methods(), ["h2o", "laq"], ["streamingllm"])


def soak(host: ModelHost, runs: int, every: int) -> list[dict[str, Any]]:
    """What is alive and the resident memory in MB, at the start and after every so many runs.

    As many runs as lie between two measurements warm the process up before the first.

    Runs differ in length, methods and in how they end: most are answered, some stopped while they write, some left,
    some refused; every fifth comes through an endpoint, and every run's map is drawn.
    """
    page, programs, process = do.Callbacks(host), Endpoints(host), psutil.Process()
    measured = []
    for index in range(-every, runs + 1):
        if index >= 0 and index % every == 0:
            measured.append({"runs": index, **_look(process)})
        if index < runs:
            _one(page, programs, index)
    return measured


def least_growth(measured: list[dict[str, Any]], what: str) -> float:
    """The least that a figure grew by from one look to the next; a leak grows between any two of them.

    What grows once is no leak: an allocator's high-water mark, a table that fills up, a module that was needed late.
    """
    return min(later[what] - earlier[what] for earlier, later in pairwise(measured))


def _look(process: psutil.Process) -> dict[str, Any]:
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    return {
        "rss_mb": round(process.memory_info().rss / 1e6, 1),
        "allocated_mb": _allocated_mb(),
        "objects": len(kinds),
        "tensors": sum(issubclass(kind, torch.Tensor) for kind in kinds),
        "runs_alive": kinds.count(Run),
        "threads": process.num_threads(),
    }


class _Mallinfo2(ctypes.Structure):
    """Of glibc's malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


def _allocated_mb() -> float:
    """What is handed out by malloc and not freed, in MB; 0 where the C library is not glibc of 2.33 or newer."""
    mallinfo2 = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if mallinfo2 is None:
        return 0.0
    mallinfo2.restype = _Mallinfo2
    info = mallinfo2()
    return round((info.uordblks + info.hblkhd) / 1e6, 2)


def _one(page: do.Callbacks, programs: Endpoints, index: int) -> None:
    document = f"Run {index}. " + DOCUMENT * (1 + index % 7)
    if index % 5 == 0:
        list(programs.retained(document, QUESTION))
        return
    methods = METHOD_SETS[index % len(METHOD_SETS)]
    run = page.begin(document, QUESTION, 24, methods, False, 8, False)[0]
    views = page.follow(run)
    if index % 5 == 1:
        next(views)
        views.close()
    elif index % 5 == 2:
        next(views)
        page.stop(run)
    else:
        for _ in views:
            pass
    assert run.finished.wait(PATIENCE_S)
    for method in run.retention:
        show_document(run, method, "", "word", 1, -1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--out", type=Path, default=assets_path("results", "soak.json"))
    options = parser.parse_args()
    started = time.perf_counter()
    lm = LanguageModel.wrap(build_model(), build_tokenizer(), name="tiny-llama")
    measured = soak(tiny_host(lm), options.runs, options.every)
    report = {
        "command": "python -m tests.soak",
        "model": "a random Llama of 4 layers, 4 heads, 2 KV heads of 16",
        "runs": options.runs,
        "warm_up_runs": options.every,
        "seconds": round(time.perf_counter() - started, 1),
        "measured": measured,
        "growth_mb": round(measured[-1]["rss_mb"] - measured[0]["rss_mb"], 1),
        "versions": {
            "judgeq": __version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
