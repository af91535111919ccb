"""How fast this CPU multiplies in bfloat16: a short trial, remembered for the machine.

Knows nothing of what is loaded.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from judgeq.models.wheels import cache_root
from judgeq.output import write_file

PREFILL = 256, 1024, 1024
"""Rows, inputs and outputs of the product that stands for a prefill."""
ONE_ROW = 2048, 8192
"""Inputs and outputs of a product of one row: more bytes than most CPUs' caches hold."""
ROUNDS = 6
WORTH = 0.8
"""A time over another that is worth a change: what lies between is noise."""
PLAIN = "plain"
"""Products of one row by weights as PyTorch stores them."""


@dataclass(frozen=True)
class CpuTrial:
    """Times in bfloat16 over those in float32.

    Attributes:
        prefill: of a product of many rows.
        one_row: of a product of one row, by layout: `PLAIN`, and those of `judgeq.attention.cpu_linear_decode.LAYOUTS`
            that work.
    """

    prefill: float
    one_row: Mapping[str, float]

    @property
    def prefers_bfloat16(self) -> bool:
        """Prompts are read faster, and no token is slower."""
        return self.prefill <= WORTH and min(self.one_row.values()) <= 1

    @property
    def layout(self) -> str | None:
        """The fastest layout for one row; None = the weights as they are."""
        best = min(self.one_row, key=lambda name: self.one_row[name])
        return best if self.one_row[best] <= WORTH * self.one_row[PLAIN] else None


def cpu_trial() -> CpuTrial:
    """The trial of this machine: from the cache folder, or made now."""
    import torch

    return _trial(torch.get_num_threads())


@cache
def _trial(threads: int) -> CpuTrial:
    from judgeq.attention.cpu_linear_decode import LAYOUTS

    path = cache_root() / "cpu" / f"{_machine(threads)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        read = json.loads(path.read_text(encoding="utf-8"))
        one_row = {name: float(over) for name, over in read["one_row"].items() if name in (PLAIN, *LAYOUTS)}
        if PLAIN in one_row:
            return CpuTrial(float(read["prefill"]), one_row)
    trial = measure()
    with contextlib.suppress(Exception):  # a folder that cannot be written: tried again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps(asdict(trial)) + "\n")
    return trial


def _machine(threads: int) -> str:
    """A digest of the CPU, PyTorch's version and the number of threads."""
    import torch

    about = platform.machine() + platform.processor()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        about = "".join(sorted({line for line in lines if line.startswith(("model", "flags", "Features"))}))
    return hashlib.sha256(f"{about} {torch.__version__} {threads}".encode()).hexdigest()[:16]


def use_layout(model: Any) -> None:
    """Give a model on a CPU the products that are fastest here: those of many rows in float32, of one row in bfloat16.

    The layout for one row takes as much memory as the bfloat16 weights: none where less than twice that is free, or
    nothing is gained.
    """
    import psutil
    import torch
    from torch import nn

    from judgeq.attention.cpu_linear_decode import LAYOUTS, lay_out
    from judgeq.attention.cpu_linear_prefill import use_onednn

    use_onednn(model)
    small = [module.weight for module in model.modules() if type(module) is nn.Linear]
    small = [each for each in small if each.dtype == torch.bfloat16 and each.device.type == "cpu"]
    needed = sum(each.nbytes for each in small)
    if needed and 2 * needed <= psutil.virtual_memory().available and (name := cpu_trial().layout):
        lay_out(model, LAYOUTS[name])


def measure() -> CpuTrial:
    """Make the trial, without a look at the cache folder."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from judgeq.attention.cpu_linear_decode import LAYOUTS
    from judgeq.attention.cpu_linear_prefill import has_two_libraries, onednn_product

    def product(rows: int, wide: int, out: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return torch.full((rows, wide), 0.5, dtype=dtype), torch.full((out, wide), 0.01, dtype=dtype)

    with torch.inference_mode():
        many = {dtype: product(*PREFILL, dtype) for dtype in (torch.float32, torch.bfloat16)}
        calls: dict[Any, Callable[[], Any]] = {dtype: partial(F.linear, *each) for dtype, each in many.items()}
        if has_two_libraries():
            calls[torch.float32] = partial(onednn_product, *many[torch.float32], None)
        times = _fastest(calls)
        prefill = times[torch.bfloat16] / times[torch.float32]
        exact = product(1, *ONE_ROW, torch.float32)
        row, weights = (each.bfloat16() for each in exact)
        calls = {torch.float32: partial(F.linear, *exact), PLAIN: partial(F.linear, row, weights)}
        for name, layout in LAYOUTS.items():
            with contextlib.suppress(RuntimeError, AttributeError):  # this CPU or this PyTorch does not have it
                laid_out = layout.lay_out(weights)
                layout.multiply(row, laid_out, None)
                calls[name] = partial(layout.multiply, row, laid_out, None)
        times = _fastest(calls)
    usual = times.pop(torch.float32)
    return CpuTrial(round(prefill, 3), {name: round(each / usual, 3) for name, each in times.items()})


def _fastest(calls: Mapping[Any, Callable[[], Any]]) -> dict[Any, float]:
    """Seconds that each call takes at best, all in turn."""
    found = dict.fromkeys(calls, float("inf"))
    for _ in range(ROUNDS):  # the first warms up: it is never the fastest
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            found[name] = min(found[name], time.perf_counter() - started)
    return found
