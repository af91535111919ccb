"""Memory: what models take, measured from their tensors, and the most that a piece of work takes on top.

Knows nothing of methods or documents.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def weight_bytes(model: Any) -> int:
    """Bytes of a model's parameters, with the scales that quantized ones carry; shared ones count once."""
    found: dict[int, Tensor] = {}
    for parameter in model.parameters():
        for tensor in (parameter.data, *_scales(parameter)):
            found[tensor.data_ptr()] = tensor
    return sum(tensor.numel() * tensor.element_size() for tensor in found.values())


def _scales(parameter: Any) -> Iterator[Tensor]:
    state = getattr(parameter, "quant_state", None)  # bitsandbytes, 4 bits
    while state is not None:
        yield from (state.absmax, state.code)
        state = getattr(state, "state2", None)
    if isinstance(column := getattr(parameter, "SCB", None), Tensor):  # bitsandbytes, 8 bits
        yield column


@dataclass
class Peak:
    """The most memory that was taken within a block, beyond what was held when it began.

    Attributes:
        bytes: None until the block has ended, and where the system does not tell.
    """

    bytes: int | None = None


@contextmanager
def peak_memory(device: Any) -> Iterator[Peak]:
    """Measure a block: PyTorch's allocations on a CUDA device, else the memory of the whole process, on Linux.

    Other threads count too.
    """
    import torch

    peak = Peak()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
    elif RESET.exists():
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)  # memory that is held though it is free would be taken again unseen
        RESET.write_text("5")  # the high-water mark starts from what is held now
        held = _status("VmRSS")
        yield peak
        peak.bytes = max(0, _status("VmHWM") - held)
    else:
        yield peak


def _status(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])
