"""Faster matrix products on CPUs where PyTorch's default library is slow, such as AMD's, after a check of rounding.

PyTorch sends float32 products to MKL, and to oneDNN only if a lower precision is allowed. Without matrix units for
bfloat16 oneDNN computes in float32 all the same, on some CPUs more than twice as fast. Products of few rows, such as
those of one token, it does more slowly, up to ten times: they use the default library.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

FAST, USUAL = "bf16", "ieee"
"""What PyTorch's setting is called with oneDNN and without."""
MAX_FUSED_WORK = 32
"""Queries of one sequence whose attention is quicker the usual way."""
_CHANGING = threading.Lock()
"""Held while the setting, which is global to the process, is read and changed."""
ERROR_ALLOWED = 4.0
"""Rounding error allowed, as a multiple of the default library's own."""


@cache
def use_fast_products() -> bool:
    """Choose oneDNN for this process if it rounds as finely as the default; returns whether it does."""
    import torch

    matmul = _setting()
    if matmul is None or not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(128, 128, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    with _CHANGING:
        before = matmul.fp32_precision
        if before == FAST:  # by another thread, or by the user: nothing to compare with
            return True
        usual = (left @ right - exact).abs().max()
        matmul.fp32_precision = FAST
        if (left @ right - exact).abs().max() <= ERROR_ALLOWED * usual:
            return True
        matmul.fp32_precision = before
    return False


class _Inside:
    """Blocks of `few_rows` in which threads are now."""

    count = 0


@contextmanager
def few_rows(rows: int = 1) -> Iterator[None]:
    """Within, products of few rows use the default library.

    While any thread is within, those of all others go the usual way too, which differs in rounding alone.
    """
    matmul = _setting()
    if rows > MAX_FUSED_WORK or matmul is None:
        yield
        return
    with _CHANGING:
        fast = _Inside.count > 0 or matmul.fp32_precision == FAST
        if fast and not _Inside.count:
            matmul.fp32_precision = USUAL
        _Inside.count += fast
    try:
        yield
    finally:
        with _CHANGING:
            _Inside.count -= fast
            if fast and not _Inside.count:
                matmul.fp32_precision = FAST


def _setting() -> Any:
    """PyTorch's object with the setting; None in versions without it."""
    import torch

    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    return matmul if hasattr(matmul, "fp32_precision") else None
