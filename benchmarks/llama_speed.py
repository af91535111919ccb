"""The time that llama.cpp takes: runs under the Python that has llama-cpp-python, and knows nothing of judgeq.

    python -I llama_speed.py FILE.gguf THREADS

One request a line on standard input, one answer a line on standard output, so that both sides can take turns.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice, pairwise
from typing import Any

NO_LLAMA = 3
"""Exit code where this Python has no llama-cpp-python."""
CONTEXT = 8192
"""Tokens of prompt and answer that the model is opened for."""


def main(path: str, threads: str) -> int:
    """Serve requests until standard input ends; the first line of output says which version answers.

    A request has `ids` (token ids) and `tokens`. An answer has `first_s`, the seconds until the first token is chosen,
    and `token_s`, the median of the later ones. With one thread its own seconds count, without those in which other
    programs had the CPU.
    """
    if find_spec("llama_cpp") is None:
        return NO_LLAMA
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        from llama_cpp import Llama

        count = int(threads)
        clock = time.process_time if count == 1 else time.perf_counter
        model = Llama(path, n_ctx=CONTEXT, n_threads=count, n_threads_batch=count, verbose=False)
        print(json.dumps({"llama_cpp_python": version("llama_cpp_python")}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(take(model, clock, **json.loads(line))), file=answers, flush=True)
    return 0


def take(model: Any, clock: Callable[[], float], ids: list[int], tokens: int) -> dict[str, float]:
    """Read a prompt and generate `tokens` greedy tokens after the first."""
    model.reset()  # else the beginning of the last prompt would not be read again
    answer = islice(model.generate(ids, top_k=1, temp=0.0, repeat_penalty=1.0), tokens + 1)
    stamps = [clock(), *(clock() for _ in answer)]
    first_s, *later = (after - before for before, after in pairwise(stamps))
    return {"first_s": first_s, "token_s": statistics.median(later)}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
