"""Faster products: taken only where they round as finely as the usual ones."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from judgeq.attention.cpu import FAST, MAX_FUSED_WORK, USUAL, few_rows, use_fast_products
from judgeq.inference.decode import next_logits
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import Full
from judgeq.models.language_model import LanguageModel


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


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The setting, as it is where fast products were chosen."""
    matmul = SimpleNamespace(fp32_precision=FAST)
    monkeypatch.setattr(torch.backends.mkldnn, "matmul", matmul)
    return matmul


def test_products_of_few_rows_go_the_usual_way_and_others_do_not(fast: Any) -> None:
    with few_rows():
        assert fast.fp32_precision == USUAL
        with few_rows():
            assert fast.fp32_precision == USUAL
        assert fast.fp32_precision == USUAL
    assert fast.fp32_precision == FAST
    with few_rows(MAX_FUSED_WORK + 1):
        assert fast.fp32_precision == FAST


def test_the_fast_way_comes_back_after_an_error_and_from_threads_that_overlap(fast: Any) -> None:
    with pytest.raises(KeyError), few_rows():
        raise KeyError
    assert fast.fp32_precision == FAST
    first, second = few_rows(), few_rows()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert fast.fp32_precision == FAST


def test_nothing_is_set_where_fast_products_were_not_chosen(fast: Any) -> None:
    fast.fp32_precision = "none"
    with few_rows():
        assert fast.fp32_precision == "none"
    assert fast.fp32_precision == "none"


def test_one_token_is_decoded_the_usual_way(
    lm: LanguageModel, fast: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str]] = []
    product = torch.nn.functional.linear

    def noted(states: torch.Tensor, *args: Any) -> torch.Tensor:
        seen.append((states.shape[1], fast.fp32_precision))
        return product(states, *args)

    monkeypatch.setattr(torch.nn.functional, "linear", noted)
    ids = lm.tokenizer("The tower is tall and it is old", return_tensors="pt")["input_ids"]
    outcome = prefill(lm, ids, [Plan(Full(), ids.shape[1])])
    next_logits(lm, outcome.retained[0].cache, 5)
    assert {setting for rows, setting in seen if rows == 1} >= {USUAL}
    assert {setting for rows, setting in seen if rows > 1} == {FAST}
