"""Faster products: taken only where they round as finely as the usual ones."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from judgeq.cpu import use_fast_products


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """The process's own choice comes back."""
    matmul = torch.backends.mkldnn.matmul
    before = matmul.fp32_precision
    use_fast_products.cache_clear()
    yield
    matmul.fp32_precision = before
    use_fast_products.cache_clear()


def test_products_stay_exact_whatever_is_chosen() -> None:
    chosen = use_fast_products()
    assert (torch.backends.mkldnn.matmul.fp32_precision == "bf16") == chosen
    left, right = torch.randn(200, 300), torch.randn(300, 100)
    exact = left.double() @ right.double()
    assert ((left @ right - exact).abs().max() / exact.abs().max()) < 1e-5


def test_a_cpu_that_rounds_to_bfloat16_keeps_its_usual_products(monkeypatch: pytest.MonkeyPatch) -> None:
    matmul = SimpleNamespace(fp32_precision="none")
    product = torch.Tensor.__matmul__

    def rounding(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if matmul.fp32_precision == "bf16" and left.dtype == torch.float32:
            return product(left.bfloat16().float(), right.bfloat16().float())
        return product(left, right)

    monkeypatch.setattr(torch.backends.mkldnn, "matmul", matmul)
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert not use_fast_products()
    assert matmul.fp32_precision == "none"


def test_a_torch_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", None)
    assert not use_fast_products()
