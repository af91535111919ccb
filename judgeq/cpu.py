"""Faster matrix products on CPUs where PyTorch's default library is slow, such as AMD's: tried out first.

PyTorch sends float32 products to MKL, and to oneDNN only if a lower precision is allowed. Without matrix units for
bfloat16 oneDNN computes in float32 all the same, on some CPUs more than twice as fast.
"""

from __future__ import annotations

from functools import cache
from typing import Any

ERROR_ALLOWED = 4.0
"""How many times the default library's own rounding error another one may make."""


@cache
def use_fast_products() -> bool:
    """Choose oneDNN for this process if it rounds as finely as the default; returns whether it does."""
    import torch

    matmul: Any = getattr(torch.backends.mkldnn, "matmul", None)
    if not torch.backends.mkldnn.is_available() or not hasattr(matmul, "fp32_precision"):
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(128, 128, generator=generator) for _ in range(2))
    exact = left.double() @ right.double()
    before = matmul.fp32_precision
    usual = (left @ right - exact).abs().max()
    matmul.fp32_precision = "bf16"
    if (left @ right - exact).abs().max() <= ERROR_ALLOWED * usual:
        return True
    matmul.fp32_precision = before
    return False
