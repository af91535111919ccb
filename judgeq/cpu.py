"""Faster matrix products on CPUs where PyTorch's default library is slow, such as AMD's: tried out first.

PyTorch sends float32 products to MKL, and to oneDNN only if a lower precision is allowed. Without matrix units for
bfloat16 oneDNN computes in float32 all the same, on some CPUs more than twice as fast. Products of few rows, such as
those of one token, it does more slowly, up to ten times: they go the usual way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

FAST, USUAL = "bf16", "ieee"
"""What PyTorch's setting is called with oneDNN and without."""
FEW = 32
"""Queries of one sequence whose attention is quicker the usual way."""
ERROR_ALLOWED = 4.0
"""How many times the default library's own rounding error another one may make."""


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
    before = matmul.fp32_precision
    usual = (left @ right - exact).abs().max()
    matmul.fp32_precision = FAST
    if (left @ right - exact).abs().max() <= ERROR_ALLOWED * usual:
        return True
    matmul.fp32_precision = before
    return False


@contextmanager
def few_rows(rows: int = 1) -> Iterator[None]:
    """Within, products go the usual way if they have few rows; the setting is the process's, so threads share it.

    Where threads meet, one may compute the slower way for a moment; all come back to what was chosen.
    """
    matmul = _setting()
    if rows > FEW or matmul is None or matmul.fp32_precision != FAST:
        yield
        return
    matmul.fp32_precision = USUAL
    try:
        yield
    finally:
        matmul.fp32_precision = FAST


def _setting() -> Any:
    """PyTorch's object with the setting; None where this version has none."""
    import torch

    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    return matmul if hasattr(matmul, "fp32_precision") else None
