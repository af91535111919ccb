"""Memory is calculated as it is measured, and nothing is downloaded for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from judgeq.attention.cpu_linear_decode import LAYOUTS, lay_out
from judgeq.cli import main
from judgeq.errors import InputError, ModelError
from judgeq.estimate import Memory, estimate, measure, memory_figure
from judgeq.models import memory
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.models.memory import peak_memory, weight_bytes
from judgeq.models.shapes import SHAPES, config_of_shape

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("tiny", 300 * 64 + 4 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64) + 64),
        # as published on the models' pages
        ("smollm2-135m", 134_515_008),
        ("llama-3.2-1b", 1_235_814_400),
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("qwen3-8b", 8_190_735_360),
        ("smollm2-1.7b", 1_711_376_384),
        ("qwen3-1.7b", 1_720_574_976),
        ("qwen3-4b", 4_022_468_096),
        ("mistral-7b-v0.3", 7_248_023_552),
    ],
)
def test_named_shapes_are_those_of_the_models(name: str, parameters: int) -> None:
    found = estimate(config_of_shape(name), prompt_tokens=10, budget=5, dtype="bfloat16")
    assert found.weights == 2 * parameters


def test_every_shape_is_tested_and_others_are_refused() -> None:
    (names,) = (mark.args[1] for mark in test_named_shapes_are_those_of_the_models.pytestmark)
    assert set(SHAPES) == {name for name, _ in names}
    with pytest.raises(ModelError, match="no shape 'gpt-9': choose one of tiny"):
        config_of_shape("gpt-9")


def test_rows_of_an_8b_model_are_what_its_geometry_says() -> None:
    found = estimate(config_of_shape("llama-3.1-8b"), prompt_tokens=32768, budget=512)
    assert found.full_rows == 32 * 32768 * 8 * 128 * 2 * 2 == 4 * GIB
    assert found.kept_rows == found.full_rows // 64
    assert found.reading is not None
    assert found.reading_full - found.reading == found.full_rows - found.kept_rows
    short = estimate(config_of_shape("llama-3.2-1b"), prompt_tokens=100, budget=512)
    assert short.kept_rows == short.full_rows


def test_bars_add_up_to_the_peak_of_reading() -> None:
    found = estimate(config_of_shape("llama-3.1-8b"), prompt_tokens=32768, budget=512, quantization="4bit")
    figure = memory_figure({"<b>32,768</b>": found}, capacity=24 * GIB)
    assert found.reading
    assert found.reading_full
    whole, evicting = (sum(bars) for bars in zip(*(trace.x for trace in figure.data), strict=True))
    assert whole == pytest.approx((found.weights + found.reading_full) / GIB, abs=0.01)
    assert evicting == pytest.approx((found.weights + found.reading) / GIB, abs=0.01)
    assert figure.layout.shapes[0].x0 == 24
    assert "<b>" not in figure.data[0].y[0]


def test_chunks_trade_activations_for_the_rows_of_all_layers() -> None:
    config = config_of_shape("llama-3.1-8b")
    sizes = {"prompt_tokens": 32768, "budget": 512}
    whole, chunks = estimate(config, **sizes), estimate(config, **sizes, chunk=1024)
    assert (whole.full_rows, whole.kept_rows) == (chunks.full_rows, chunks.kept_rows)
    assert whole.reading is not None
    assert whole.reading_full is not None
    assert chunks.reading == chunks.reading_full, "all rows are held until the last chunk"
    one_pass = 32800 * (5 * 4096 + 3 * 14336) * 2  # the feed-forward is the widest moment
    last_pass = 2 * 32 * 32 * 32800 * 4 + 2 * 32 * 128 * 1056 * 2  # the soft tokens' attention is
    assert whole.reading_full - chunks.reading == one_pass - last_pass
    assert estimate(config, **sizes, chunk=40000) == whole
    with pytest.raises(InputError, match="chunk"):
        estimate(config, **sizes, chunk=0)


@pytest.mark.parametrize("row_bits", [8, 4])
def test_rows_in_few_bits_take_what_was_calculated(some_lm: LanguageModel, row_bits: int) -> None:
    sizes = {"prompt_tokens": 90, "budget": 45, "row_bits": row_bits}
    calculated = estimate(some_lm.model.config, **sizes, dtype="float32", soft_tokens=4)
    measured = measure(some_lm, **sizes, soft_tokens=4)
    assert calculated.kept_rows == measured.kept_rows
    assert calculated.full_rows == measured.full_rows


def test_prompts_fit_as_long_as_there_is_room_to_read_one_more() -> None:
    found = Memory(weights=100, full_rows=50, kept_rows=5, reading=25, reading_full=70)
    assert found.prompts_within(100 + 20 + 3 * 50 + 49, kept=False) == 3
    assert found.prompts_within(100 + 20 + 7 * 5, kept=True) == 7
    assert found.prompts_within(99, kept=True) == 0


@pytest.mark.parametrize("chunk", [None, 32])
def test_a_tiny_model_takes_what_was_calculated(some_lm: LanguageModel, chunk: int | None) -> None:
    sizes = {"prompt_tokens": 90, "budget": 16, "chunk": chunk}
    calculated = estimate(some_lm.model.config, **sizes, dtype="float32", soft_tokens=4)
    measured = measure(some_lm, **sizes, soft_tokens=4)
    for name in ("weights", "full_rows", "kept_rows"):
        assert getattr(calculated, name) == getattr(measured, name)


@pytest.mark.embedded
@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantized_weights_are_calculated_to_the_percent(quantization: str) -> None:
    lm = load("smollm2-135m", quantization=quantization)
    found = estimate(lm.model.config, prompt_tokens=10, budget=5, dtype="float32", quantization=quantization)
    assert found.weights == pytest.approx(weight_bytes(lm.model), rel=0.01)


@pytest.mark.parametrize(("dtype", "tied"), [("bfloat16", True), ("bfloat16", False), ("float32", True)])
def test_a_second_layout_of_the_weights_is_counted(make_lm: Any, dtype: str, tied: bool) -> None:
    lm = make_lm(tie_word_embeddings=tied)
    lm.model.to(getattr(torch, dtype))
    lay_out(lm.model, LAYOUTS["float16"])
    sizes = {"prompt_tokens": 90, "budget": 16, "soft_tokens": 4}
    calculated, measured = estimate(lm.model.config, **sizes, dtype=dtype), measure(lm, **sizes)
    assert (calculated.weights, calculated.second_layout) == (measured.weights, measured.second_layout)
    assert (calculated.second_layout > 0) == (dtype == "bfloat16")
    quantized = estimate(lm.model.config, **sizes, dtype=dtype, quantization="4bit")
    assert quantized.second_layout == (2 * 300 * 64 if dtype == "bfloat16" else 0), "the head"


def test_shared_weights_count_once(make_lm: Any) -> None:
    apart, tied = (make_lm(tie_word_embeddings=tie) for tie in (False, True))
    assert weight_bytes(apart.model) - weight_bytes(tied.model) == 300 * 64 * 4


@pytest.mark.skipif(not memory.RESET.exists(), reason="this system does not tell a process's peak memory")
def test_the_peak_is_what_a_block_takes_even_if_it_gives_it_back() -> None:
    with peak_memory(torch.device("cpu")) as peak:
        torch.ones(2**28, dtype=torch.uint8).add_(1)
    assert 0.99 * 2**28 < peak.bytes < 2**29  # whole pages


def test_a_system_that_does_not_tell_is_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(memory, "RESET", tmp_path / "missing")
    with peak_memory(torch.device("cpu")) as peak:
        pass
    assert peak.bytes is None


def test_the_command_calculates_for_models_that_are_not_here(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["estimate", "--model", "llama-3.1-8b", "--quantization", "4bit", "--prompt-tokens", "8192"]
    assert main([*command, "--budget", "0.25", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["budget"], found["dtype"], found["measured"]) == (2048, "bfloat16", None)
    assert found["calculated"]["full_rows"] == 4 * found["calculated"]["kept_rows"] == GIB
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "rows, full cache                 1.000 GiB\n" in said
    assert "second layout, on some CPUs      0.979 GiB\n" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "no-such-model"], "no model 'no-such-model'"),
        (["--prompt-tokens", "0"], "prompt_tokens"),
        (["--budget", "none"], "not a number"),
    ],
)
def test_bad_input_is_one_sentence(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--model", "llama-3.1-8b", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_shape_is_measured_with_random_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """4 layers, 2 KV heads of 16 numbers: 50 rows kept of 300."""
    words = "estimate --model tiny --prompt-tokens 300 --budget 50 --measure --json -".split()
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["measured"]["kept_rows"] == found["calculated"]["kept_rows"] == 4 * 50 * 2 * 2 * 16 * 4
    assert found["measured"]["weights"] == found["calculated"]["weights"]
