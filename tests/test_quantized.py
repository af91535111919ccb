"""Rows in 8 or 4 bits: what rounding costs, what it saves, and that such a cache continues like any other."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

import judgeq
from judgeq.cache import ragged
from judgeq.cache.quantized import GROUP, QuantizedRows
from judgeq.cache.ragged import FrozenRows, VarlenKernel
from judgeq.cache.retained import storage_bytes
from judgeq.config import Allocation, Decoding, Selection
from judgeq.data.example import Example
from judgeq.errors import InputError, ModelError
from judgeq.evaluation.journal import Journal
from judgeq.evaluation.questions import Question, Task
from judgeq.evaluation.results import cells_of, rows_of
from judgeq.evaluation.runner import asked_of, run
from judgeq.inference.decode import decode
from judgeq.inference.decode_batch import PendingAnswer, decode_together
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill, prefill
from judgeq.methods import Full, JudgeQ, SnapKV
from judgeq.methods.parsing import method_from_text, methods_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import TEXT, MakeLM
from tests.test_profile import profile
from tests.test_ragged import packed_attention

TOKENS = 90
NEW = torch.randint(3, 300, (1, 6), generator=torch.Generator().manual_seed(7))
COUNTS = (70, 1, 32, 5)
BITS = pytest.mark.parametrize("bits", [8, 4])


def rows_like_keys(dim: int = 64, seed: int = 0) -> Tensor:
    """(R, D), a few of whose channels are large in every row."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn((sum(COUNTS), dim), generator=generator)
    rows[:, ::9] += 20
    return rows


def ways(rows: Tensor, bits: int) -> tuple[QuantizedRows, QuantizedRows]:
    return QuantizedRows.by_channel(rows, COUNTS, bits), QuantizedRows.by_row(rows, bits)


# Rounding


@BITS
@pytest.mark.parametrize("dim", [16, 64, 80])
def test_no_number_is_off_by_more_than_half_a_step(bits: int, dim: int) -> None:
    rows = rows_like_keys(dim)
    heads = rows.split(COUNTS)
    by_channel, by_row = ways(rows, bits)
    for head, again in zip(heads, by_channel.dense().split(COUNTS), strict=True):
        for theirs, ours in zip(head.split(GROUP), again.split(GROUP), strict=True):
            step = (theirs.amax(0) - theirs.amin(0)) / (2**bits - 1)
            edge = theirs.amin(0).abs() * 2**-11  # float16
            assert ((theirs - ours).abs() <= torch.maximum(step / 2, edge) * 1.01 + 1e-4).all()
    width = {16: 16, 64: 32, 80: 16}[dim]
    for theirs, ours in zip(rows.split(width, 1), by_row.dense().split(width, 1), strict=True):
        step = (theirs.amax(1) - theirs.amin(1)) / (2**bits - 1)
        edge = theirs.amin(1).abs() * 2**-11
        bound = torch.maximum(step / 2, edge) * 1.01 + 1e-4
        assert ((theirs - ours).abs() <= bound[:, None]).all()


@BITS
def test_large_channels_do_not_cost_the_others_their_precision(bits: int) -> None:
    rows = rows_like_keys()
    by_channel, by_row = ways(rows, bits)
    errors = [(each.dense() - rows).abs().mean() for each in (by_channel, by_row)]
    assert errors[0] < errors[1] / 3


@BITS
def test_what_the_numbers_take_is_what_is_stored(bits: int) -> None:
    by_channel, by_row = ways(rows_like_keys(), bits)
    total, groups = sum(COUNTS), 3 + 1 + 1 + 1
    assert storage_bytes(by_channel.tensors()) == total * 64 * bits // 8 + groups * 64 * 2 * 2
    assert storage_bytes(by_row.tensors()) == total * 64 * bits // 8 + total * 2 * 2 * 2
    assert by_channel.shape == by_row.shape == (total, 64)


@BITS
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equal_numbers_stay_equal_and_types_are_kept(bits: int, dtype: torch.dtype) -> None:
    rows = torch.full((sum(COUNTS), 16), 0.5, dtype=dtype)
    for each in ways(rows, bits):
        assert each.dense().dtype == dtype
        assert torch.equal(each.dense(), rows)


@BITS
@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("kernel", [None, packed_attention])
def test_attention_over_rounded_rows_is_that_over_the_rows_they_come_to(
    bits: int, softcap: float | None, kernel: VarlenKernel | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ragged, "varlen_kernel", lambda queries: kernel)
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn((1, 8, 2, 64), generator=generator)
    tail = torch.randn((1, 4, 3, 64), generator=generator)
    for counts in (COUNTS, (27,) * 4):
        heads = list(zip(rows_like_keys().split(counts), rows_like_keys(seed=1).split(counts), strict=True))
        rounded = FrozenRows.of_heads(heads, bits)
        exact = FrozenRows.of_heads(rounded.heads())
        outputs = [rows.attention(queries, tail, tail, 0.1, softcap) for rows in (rounded, exact)]
        assert torch.allclose(*outputs, atol=1e-5)
        assert set(vars(rounded)) == {"keys", "values", "counts"}, "rows in full precision stay behind"


# In a cache


def read(
    lm: LanguageModel,
    ids: Tensor,
    soft: SoftTokenTensors,
    bits: int | None,
    allocation: str = "uniform",
    budget: int = 20,
) -> Prefill:
    learned = profile(8, 64, layers=len(lm.geometry.global_layers))
    plan = Plan(JudgeQ(selection=Selection(allocation=allocation, bits=bits)), budget, learned)
    return prefill(lm, ids, [plan], soft_tokens=soft)


@pytest.mark.parametrize("allocation", get_args(Allocation))
def test_eight_bits_write_the_same_with_every_allocation(
    some_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, allocation: str
) -> None:
    exact, rounded = (read(some_lm, ids, soft, bits, allocation).retained[0] for bits in (None, 8))
    for layer in some_lm.geometry.global_layers:
        both = zip(rounded.kept[layer], exact.kept[layer], strict=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in both)
    for tokens in NEW.split(1, 1):
        expected, logits = (some_lm.model(tokens, cache=kept.cache).logits[0, -1] for kept in (exact, rounded))
        assert expected[logits.argmax()] > expected.max() - 0.1  # random models know near ties


def test_four_bits_are_coarser_than_eight(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    exact, eight, four = (
        lm.model(NEW, cache=read(lm, ids, soft, bits).retained[0].cache).logits for bits in (None, 8, 4)
    )
    assert 0 < (eight - exact).abs().mean() < (four - exact).abs().mean() / 4


@BITS
@pytest.mark.parametrize("allocation", ["uniform", "adakv"])
def test_bytes_are_those_of_codes_and_ranges_and_of_the_tail_as_it_comes(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, bits: int, allocation: str
) -> None:
    retained = read(lm, ids, soft, bits, allocation).retained[0]
    counts = [[len(rows) for rows in (layer if isinstance(layer, tuple) else layer[0])] for layer in retained.kept]
    rows, groups = sum(map(sum, counts)), sum(-(-count // GROUP) for layer in counts for count in layer)
    expected = rows * 16 * 2 * bits // 8 + groups * 16 * 4 + rows * 4
    assert retained.cache.kv_bytes == expected < rows * 16 * 2 * 4 / 2
    assert retained.cache.rows == 4 * 20
    lm.model(NEW, cache=retained.cache)
    assert retained.cache.kv_bytes == retained.cache.row_bytes == expected + 4 * 2 * 6 * 16 * 2 * 4


def test_the_full_cache_can_be_stored_in_few_bits(lm: LanguageModel, ids: Tensor) -> None:
    plans = [Plan(Full(selection=Selection(pool=1, bits=bits)), TOKENS) for bits in (None, 8)]
    exact, rounded = prefill(lm, ids, plans).retained
    assert rounded.cache.rows == exact.cache.rows == 4 * TOKENS
    assert rounded.cache.kv_bytes < exact.cache.kv_bytes / 2
    logits = [lm.model(NEW[:, :1], cache=kept.cache).logits for kept in (exact, rounded)]
    assert torch.equal(*(each.argmax(-1) for each in logits))
    with pytest.raises(ModelError, match="not quantized"):
        rounded.cache.frozen()


def test_a_fork_shares_the_codes_and_a_copy_does_not(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    cache = read(lm, ids, soft, 4).retained[0].cache
    fork, copied = cache.fork(), copy.deepcopy(cache)
    assert fork.layers[0].frozen.keys.codes is cache.layers[0].frozen.keys.codes
    assert copied.layers[0].frozen.keys.codes is not cache.layers[0].frozen.keys.codes
    expected = lm.model(NEW, cache=cache).logits
    for other in (fork, copied):
        assert torch.equal(lm.model(NEW, cache=other).logits, expected)
    cache.crop(-6)
    assert torch.equal(lm.model(NEW, cache=cache).logits, expected)


def test_layers_with_a_sliding_window_are_not_rounded(make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors) -> None:
    lm = make_lm("qwen2", use_sliding_window=True, sliding_window=24, max_window_layers=2)
    exact, rounded = (read(lm, ids, soft, bits).retained[0].cache for bits in (None, 8))
    assert torch.equal(rounded.layers[2].keys, exact.layers[2].keys)
    logits = [lm.model(NEW[:, :1], cache=cache).logits for cache in (exact, rounded)]
    assert torch.equal(*(each.argmax(-1) for each in logits))


def test_answers_written_together_are_those_written_alone(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    outcomes = [read(lm, ids, soft, bits, allocation) for bits, allocation in ((4, "uniform"), (8, "adakv"))]
    answers = [PendingAnswer(each.retained[0].cache, each.logits, Decoding(8)) for each in outcomes]
    texts = [written.text for written in decode_together(lm, answers)]
    for outcome, text in zip(outcomes, texts, strict=True):
        steps = decode(lm, outcome.retained[0].cache, outcome.logits, Decoding(8))
        assert "".join(step.text for step in steps) == text


def test_several_prompts_at_once_are_refused(lm: LanguageModel, ids: Tensor) -> None:
    plan = Plan(SnapKV(selection=Selection(bits=8)), 9)
    with pytest.raises(InputError, match="this batch has 2: prefill them one by one"):
        prefill(lm, ids.repeat(2, 1), [plan])


# By name


def test_bits_are_an_option_of_every_method() -> None:
    assert method_from_text("snapkv:bits=4") == SnapKV(selection=Selection(recent=32, bits=4))
    assert method_from_text("full:bits=8") == Full(selection=Selection(pool=1, bits=8))
    with pytest.raises(InputError, match=r"Selection.bits is 5; give 8 or 4"):
        method_from_text("judgeq:bits=5")


def test_an_answer_from_rounded_rows_takes_fewer_bytes(lm: LanguageModel) -> None:
    def ask(**options: int) -> judgeq.Answer:
        return judgeq.ask(lm, TEXT * 2, "Who pays?", method="snapkv", budget=40, decoding=Decoding(4), **options)

    plain, eight, four = ask(), ask(row_bits=8), ask(row_bits=4)
    assert plain.kv_bytes > 2 * eight.kv_bytes > 2 * four.kv_bytes
    assert eight.kept_rows == plain.kept_rows
    assert eight.kv_bytes < eight.kv_bytes_at_end
    with pytest.raises(InputError, match="give 8 or 4"):
        ask(row_bits=3)


def test_eviction_and_rounding_are_measured_side_by_side(lm: LanguageModel) -> None:
    question = Question(Example.asking(TEXT * 2, "Who pays?", "sample", answers=("nobody",)), 6)
    methods = methods_from_text("full,full:bits=4,snapkv,snapkv:bits=4,oracle")
    asked = asked_of(methods, [40])
    (measured,) = run(lm, [Task("own", [question])], asked, tokens=None, journal=Journal(None, {}))
    names = ["full@1.0", "full:bits=4@1.0", "snapkv@40", "snapkv:bits=4@40", "oracle@40"]
    assert [each.name for each in asked] == names
    assert set(measured.answers[0]) == set(names)
    texts = {name: rated.text for name, rated in measured.answers[0].items()}
    for name, method in (("full:bits=4@1.0", methods["full:bits=4"]), ("snapkv@40", methods["snapkv"])):
        ids = question.input_ids(lm)
        outcome = prefill(lm, ids, [Plan(method, 40 if name == "snapkv@40" else ids.shape[1])])
        steps = decode(lm, outcome.retained[0].cache, outcome.logits, Decoding(6))
        assert texts[name] == "".join(step.text for step in steps)
    assert texts["full:bits=4@1.0"] != texts["full@1.0"]


def test_results_tell_the_bytes_that_answers_were_written_from(lm: LanguageModel, tmp_path: Path) -> None:
    question = Question(Example.asking(TEXT * 2, "Who pays?", "sample", answers=("nobody",)), 6)
    asked = asked_of(methods_from_text("full,snapkv,snapkv:bits=4"), [40])
    rows = []
    for _ in range(2):  # the second time from the file
        journal = Journal(tmp_path / "items.jsonl", {})
        measured = run(lm, [Task("own", [question])], asked, tokens=None, journal=journal)
        rows.append(rows_of(cells_of(measured), asked, 0))
    assert rows[0] == rows[1]
    tokens = question.input_ids(lm).shape[1]
    sizes = {row["method"]: row["kv_bytes"] for row in rows[0]}
    # 40 rows in 4 bits: codes, ranges of two groups of keys, of one group of each row's values
    assert sizes == {
        "full": 4 * 2 * tokens * 128,
        "snapkv": 4 * 2 * 40 * 128,
        "snapkv:bits=4": 4 * 2 * (40 * 16 + 2 * 16 * 4 + 40 * 4),
    }
