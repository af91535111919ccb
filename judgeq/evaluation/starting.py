"""How long a start takes: processes that import the library, load a model and end. Knows nothing of methods."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

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


@dataclass(frozen=True, kw_only=True)
class Start:
    """Seconds, one after the other.

    Attributes:
        torch_s: `import torch`.
        import_s: `import judgeq` behind it.
        load_s: `judgeq.load`, which imports transformers.
    """

    torch_s: float
    import_s: float
    load_s: float


def start(**model: Any) -> Start:
    """One start, in a fresh process of this Python.

    Args:
        model: what `judgeq.load` is called with, as JSON can hold it.

    Raises:
        InputError: the process failed, with its last words.
    """
    path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]  # this judgeq
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
    torch_s, import_s, load_s = json.loads(ran.stdout.splitlines()[-1])
    return Start(torch_s=torch_s, import_s=import_s, load_s=load_s)


def median_start(starts: list[Start]) -> Start:
    """The median of each part; at least one start."""
    return Start(
        torch_s=median(each.torch_s for each in starts),
        import_s=median(each.import_s for each in starts),
        load_s=median(each.load_s for each in starts),
    )
