"""What a person's machine has set must not decide a test: imported before everything that reads the environment.

One thread computes, as many tests run at once as there are cores: sums are rounded alike, and cores are not fought for.
What names a folder for packages or models, a browser, or another environment's Python stays as it is.
"""

from __future__ import annotations

import os
import re
import sys

import psutil

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SETTLED = "JUDGEQ_TESTS_SETTLED"
"""Tells processes that tests start that it is done: what a test has set for them stays."""
GIT = {"commit.gpgsign": "false", "core.hooksPath": os.devnull}
LOOPBACK = "127.0.0.1,localhost,::1"
STRANGE = re.compile(
    r"(GRADIO|SPACE|SPACES|ACCELERATE|HF_DATASETS|TRANSFORMERS)_\w+|SYSTEM"
    r"|HF_(TOKEN|TOKEN_PATH|ENDPOINT|HUB_\w+)|HUGGING_?FACE_HUB_\w+"
    r"|JUDGEQ_(MODEL|TOKENS|QUANTIZATION|DTYPE)"
    r"|COLUMNS|LINES|(NO|FORCE|CLICOLOR|CLICOLOR_FORCE)_?COLOR|PY_COLORS|PYTHON_COLORS"
    r"|PYTHONWARNINGS|PYTHONIOENCODING|PYTHONOPTIMIZE|PLOTLY_RENDERER|MPLBACKEND"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|MASTER_ADDR|MASTER_PORT"
    r"|GIT_\w+"
)
"""Variables that change what is computed, shown or asked for."""


def settle(environment: dict[str, str] | os._Environ[str]) -> None:
    """Leave in it nothing that makes a test another one here than elsewhere."""
    for name in list(environment):
        if STRANGE.fullmatch(name):
            del environment[name]
    environment[SETTLED] = "1"
    environment["JUDGEQ_DTYPE"] = "float32"  # the demo's default is what this CPU multiplies faster
    for name in THREADS:
        environment[name] = "1"
    environment["GIT_CONFIG_COUNT"] = str(len(GIT))
    for index, (name, value) in enumerate(GIT.items()):
        environment[f"GIT_CONFIG_KEY_{index}"], environment[f"GIT_CONFIG_VALUE_{index}"] = name, value
    for name in ("NO_PROXY", "no_proxy"):
        environment[name] = ",".join(filter(None, [environment.get(name), LOOPBACK]))


def workers() -> int:
    """How many tests run at once: as many as this process has cores and there is memory for, at most 8."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else psutil.cpu_count(logical=False) or 1
    memory = psutil.virtual_memory().available // 4_000_000_000
    return max(1, min(cores, memory, 8))


if SETTLED not in os.environ:
    settle(os.environ)
