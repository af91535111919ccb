"""Faster float32 products of many rows: as exact, for the model's own layers, and nothing else in the process."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from judgeq.attention.cpu_linear_prefill import FEW_ROWS, ManyRowsLinear, has_two_libraries, use_onednn
from judgeq.attention.registry import output_weight
from judgeq.evaluation.random_weights import random_model
from tests.fixtures import build_model

pytestmark = pytest.mark.skipif(not has_two_libraries(), reason="this PyTorch has one library for products")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(1, FEW_ROWS + 1, 96), (2, 40, 96), (300, 96)])
def test_products_of_many_rows_are_as_exact(shape: tuple[int, ...], bias: bool) -> None:
    plain = nn.Linear(96, 40, bias=bias).requires_grad_(False)
    rows = torch.randn(*shape, 2)[..., 0]  # not contiguous
    exact = nn.functional.linear(rows.double(), plain.weight.double(), plain.bias.double() if bias else None)
    with torch.inference_mode():
        found = ManyRowsLinear(plain)(rows)
    assert (found.shape, found.dtype) == (exact.shape, torch.float32)
    assert (found - exact).abs().max() < 1e-5


def test_all_other_products_are_those_of_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judgeq.attention.cpu_linear_prefill.onednn_product", lambda *_: pytest.fail("not PyTorch's"))
    plain = nn.Linear(96, 40).requires_grad_(False)
    layer, rows = ManyRowsLinear(plain), torch.randn(FEW_ROWS + 1, 96)
    assert layer.weight is plain.weight
    assert torch.equal(layer(rows), plain(rows))  # gradients may be asked for
    with torch.inference_mode():
        assert torch.equal(layer(rows[1:]), plain(rows[1:]))
        assert layer.bfloat16()(rows.bfloat16()).dtype == torch.bfloat16


def test_a_model_says_the_same_and_keeps_its_parameters() -> None:
    models = [build_model(tie_word_embeddings=True).requires_grad_(False).eval() for _ in range(2)]
    use_onednn(models[1])
    layers = [module for module in models[1].modules() if isinstance(module, nn.Linear)]
    assert {type(module) for module in layers} == {ManyRowsLinear}
    assert models[1].lm_head.weight is models[1].model.embed_tokens.weight
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    ids = torch.randint(3, 300, (1, 90))
    with torch.inference_mode():
        torch.testing.assert_close(models[1](ids).logits, models[0](ids).logits, atol=1e-5, rtol=1e-4)
    attention = models[1].model.layers[0].self_attn
    assert output_weight(attention, torch.zeros(1, 4, 1, 16)) is attention.o_proj.weight
    use_onednn(half := build_model().bfloat16())
    assert {type(each) for each in half.modules() if isinstance(each, nn.Linear)} == {nn.Linear}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_changes_no_setting_of_the_process(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def settings() -> list[object]:
        matmul = torch.backends.mkldnn.matmul.fp32_precision
        return [matmul, torch.get_float32_matmul_precision(), torch.get_rng_state().tolist()]

    monkeypatch.setattr(torch, "set_default_dtype", lambda _: pytest.fail("seen by all threads"))
    before = settings()
    lm = random_model("tiny", "cpu", dtype=dtype)
    with torch.inference_mode():
        lm.model(torch.randint(3, 300, (1, 90), generator=torch.Generator()))
    assert settings() == before
