"""bfloat16 on a CPU: products of one row from a second layout, and when it is chosen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import judgeq
import judgeq.models.cpu_trial
from judgeq.attention.cpu_linear_decode import LAYOUTS, Layout, OneRowLinear, lay_out
from judgeq.attention.softcap import grouped_attention
from judgeq.models.cpu_trial import PLAIN, CpuTrial, cpu_trial, use_layout
from judgeq.models.language_model import LanguageModel
from judgeq.models.supported import choose_dtype
from tests.fixtures import build_model

FASTER = CpuTrial(0.5, {PLAIN: 1.1, "float16": 0.4, "onednn": 0.6})
SLOWER = CpuTrial(1.5, {PLAIN: 1.1, "float16": 1.2})
CPU = torch.device("cpu")
ROUNDING = 2.0**-8
"""The largest error of a number in bfloat16, relative to it."""


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    found = LAYOUTS[request.param]
    try:
        found.multiply(torch.ones(1, 8).bfloat16(), found.lay_out(torch.ones(8, 8).bfloat16()), None)
    except (RuntimeError, AttributeError):
        pytest.skip("not on this CPU")
    return found


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[CpuTrial]:
    """The trials that are made, in a cache folder of their own; each finds bfloat16 faster."""
    made: list[CpuTrial] = []
    monkeypatch.setenv("JUDGEQ_CACHE", str(tmp_path))
    monkeypatch.setattr(judgeq.models.cpu_trial, "measure", lambda: made.append(FASTER) or FASTER)
    judgeq.models.cpu_trial._trial.cache_clear()
    yield made
    judgeq.models.cpu_trial._trial.cache_clear()


def linear(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(96, 40, bias=bias).bfloat16().requires_grad_(False)


@pytest.mark.parametrize("size", [0.0, 1e-6, 1.0, 1e6, 1e30])
@pytest.mark.parametrize("bias", [False, True])
def test_a_row_is_multiplied_as_exactly_as_bfloat16_can_say(layout: Layout, bias: bool, size: float) -> None:
    plain = linear(bias)
    row = (size * torch.randn(1, 1, 96)).bfloat16()
    exact = row.double() @ plain.weight.double().T + (plain.bias.double() if bias else 0)
    with torch.inference_mode():
        found = OneRowLinear(plain, layout)(row)
    assert (found.dtype, found.shape) == (torch.bfloat16, (1, 1, 40))
    assert (found - exact).abs().max() <= 2 * ROUNDING * max(exact.abs().max(), size)


def test_rows_that_are_not_numbers_stay_so(layout: Layout) -> None:
    row = torch.ones(1, 96).bfloat16()
    row[0, 3] = torch.nan
    with torch.inference_mode():
        assert OneRowLinear(linear(), layout)(row).isnan().all()


def test_everything_else_uses_the_weights_themselves() -> None:
    plain = linear()
    second = OneRowLinear(plain, Layout(torch.zeros_like, lambda *_: pytest.fail("not the weights")))
    assert second.weight is plain.weight
    row = torch.randn(1, 96).bfloat16()
    assert torch.equal(second(row), plain(row))  # gradients may be asked for
    with torch.inference_mode():
        assert torch.equal(second(row.repeat(2, 1)), plain(row.repeat(2, 1)))
        assert torch.equal(second.float()(row.float()), plain(row.float()))


def test_a_model_with_a_second_layout_says_the_same_and_keeps_its_parameters(layout: Layout) -> None:
    models = [build_model(tie_word_embeddings=True).bfloat16().requires_grad_(False).eval() for _ in range(2)]
    lay_out(models[1], layout)
    layers = [module for module in models[1].modules() if isinstance(module, nn.Linear)]
    assert {type(module) for module in layers} == {OneRowLinear}
    assert models[1].lm_head.weight is models[1].model.embed_tokens.weight
    assert models[0].state_dict().keys() == models[1].state_dict().keys()
    with torch.inference_mode():
        first, second = (model(torch.tensor([[7]])).logits.float() for model in models)
    assert (first - second).norm() <= 8 * ROUNDING * first.norm()


def test_weights_that_float16_cannot_hold_have_no_second_layout() -> None:
    model = nn.Sequential(linear(), linear())
    model[1].weight[0, 0] = 1e5
    lay_out(model, LAYOUTS["float16"])
    assert [type(layer) for layer in model] == [OneRowLinear, nn.Linear]


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_one_query_attends_as_in_the_usual_attention(heads: int) -> None:
    torch.manual_seed(0)
    queries, keys, values = (torch.randn(1, count, rows, 16) for count, rows in ((6, 1), (heads, 50), (heads, 50)))
    found = grouped_attention(queries, keys, values, 0.3)
    usual = nn.functional.scaled_dot_product_attention(queries, keys, values, scale=0.3, enable_gqa=True)
    assert torch.allclose(found, usual.transpose(1, 2), atol=1e-6)


def test_the_trial_is_made_once_for_a_machine(trial: list[CpuTrial], tmp_path: Path) -> None:
    forget = judgeq.models.cpu_trial._trial.cache_clear
    assert cpu_trial() == cpu_trial() == FASTER
    forget()
    assert cpu_trial() == FASTER
    assert len(trial) == 1
    (path,) = (tmp_path / "cpu").iterdir()
    for damaged in ("", "[]", '{"prefill": 0.5}', json.dumps({"prefill": None, "one_row": {}})):
        path.write_text(damaged, encoding="utf-8")
        forget()
        assert cpu_trial() == FASTER
    assert len(trial) == 5
    (tmp_path / "cpu").rename(tmp_path / "aside")
    (tmp_path / "cpu").touch()  # nothing can be written there
    forget()
    assert cpu_trial() == FASTER


@pytest.mark.parametrize(
    ("dtype", "found", "expected"),
    [
        (None, FASTER, torch.float32),
        ("auto", FASTER, torch.bfloat16),
        ("auto", SLOWER, torch.float32),
        ("float32", FASTER, torch.float32),
        ("bfloat16", SLOWER, torch.bfloat16),
    ],
)
def test_auto_is_what_the_cpu_multiplies_faster(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, found: CpuTrial, expected: torch.dtype
) -> None:
    monkeypatch.setattr(judgeq.models.cpu_trial, "cpu_trial", lambda: found)
    assert choose_dtype(dtype, CPU, build_model().config) == expected


def test_auto_leaves_quantized_weights_in_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgeq.models.cpu_trial, "cpu_trial", lambda: FASTER)
    assert choose_dtype("auto", CPU, build_model().config, quantized=True) == torch.float32


def test_a_layout_is_chosen_where_it_gains_time_and_there_is_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (FASTER.layout, SLOWER.layout) == ("float16", None)
    monkeypatch.setattr(judgeq.models.cpu_trial, "cpu_trial", lambda: FASTER)

    def layouts(model: nn.Module) -> set[type]:
        use_layout(model)
        return {type(layer) for layer in model}

    assert layouts(nn.Sequential(linear())) == {OneRowLinear}
    assert OneRowLinear not in layouts(nn.Sequential(linear().float()))
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("", (), {"available": 1000})())
    assert layouts(nn.Sequential(linear())) == {nn.Linear}


def test_an_answer_says_its_precision(tokenizer: Any) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        lm = LanguageModel.wrap(build_model().to(dtype), tokenizer)
        answer = judgeq.ask(lm, "The harbour lies in the north. " * 5, "Where?", method="snapkv", budget=8)
        assert answer.precision == answer.to_dict()["precision"] == lm.precision == str(dtype)[6:]
