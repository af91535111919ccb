"""Heads that keep different numbers of rows: exact attention, exact bytes, a cache that continues like any other."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

import judgeq
from judgeq.cache import ragged
from judgeq.cache.ragged import FrozenRows, RaggedLayer
from judgeq.cache.retained import RetainedCache, storage_bytes
from judgeq.config import Selection
from judgeq.errors import InputError, ModelError
from judgeq.inference.maps import retention_map
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import Prefill, prefill
from judgeq.methods import Full, JudgeQ, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import build_prompt
from judgeq.soft_tokens.budget_profile import BudgetProfile
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import MakeLM, written
from tests.masked_reference import REFERENCE, attention, gone_rows
from tests.test_profile import profile

TOKENS = 90
ADAKV = Selection(allocation="adakv")
NEW = torch.randint(3, 300, (1, 6), generator=torch.Generator().manual_seed(7))


def read(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, allocation: Any = "adakv", budget: int = 9) -> Prefill:
    learned = profile(8, 64, layers=len(lm.geometry.global_layers))
    plan = Plan(JudgeQ(selection=Selection(allocation=allocation)), budget, learned)
    return prefill(lm, ids, [plan], soft_tokens=soft)


def counts(retained: Retained) -> list[list[int]]:
    return [[len(rows) for rows in layer] for layer in retained.kept if layer is not None]


@pytest.mark.parametrize("few", [0, ragged.MAX_FUSED_WORK], ids=["head by head", "all heads together"])
@pytest.mark.parametrize(
    ("allocation", "chunks"), [("adakv", (1, 1, 1)), ("profile", (6,)), ("profile+adakv", (2, 1, 3))]
)
def test_the_output_is_that_of_dense_attention_with_evicted_rows_masked(
    each_lm: LanguageModel,
    ids: Tensor,
    soft: SoftTokenTensors,
    allocation: str,
    chunks: Sequence[int],
    few: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ragged, "MAX_FUSED_WORK", few)
    retained = read(each_lm, ids, soft, allocation).retained[0]
    assert len({count for layer in counts(retained) for count in layer}) > 2
    full = DynamicCache(config=each_lm.model.config)
    new = NEW[:, : sum(chunks)].split(list(chunks), 1)
    gone = gone_rows(retained, TOKENS)
    with attention(each_lm, REFERENCE):
        each_lm.model(ids, cache=full, gone=None)
        expected = [each_lm.model(c, cache=full, gone=gone).logits for c in new]
    for tokens, logits in zip(new, expected, strict=True):
        assert torch.allclose(each_lm.model(tokens, cache=retained.cache).logits, logits, atol=1e-3)
    assert retained.cache.get_seq_length() == TOKENS + sum(chunks)


@pytest.mark.parametrize("allocation", ["adakv", "profile", "profile+adakv"])
def test_a_budget_of_the_whole_prompt_changes_nothing(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, allocation: str
) -> None:
    outcome = read(lm, ids, soft, allocation, budget=TOKENS)
    assert counts(outcome.retained[0]) == [[TOKENS] * 2] * 4
    full = lm.model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert written(lm, outcome.retained[0].cache, outcome.logits, 8) == full[0, TOKENS:].tolist()


def test_layers_with_a_sliding_window_stand_beside_ragged_ones(
    make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors
) -> None:
    lm = make_lm("qwen2", use_sliding_window=True, sliding_window=24, max_window_layers=2)
    outcome = read(lm, ids, soft, budget=TOKENS)
    cache = outcome.retained[0].cache
    assert cache.is_sliding == [False, False, True, True]
    expected = DynamicCache(config=lm.model.config)
    lm.model(ids, cache=expected)
    for tokens in NEW.split([1, 3, 2], 1):
        logits = lm.model(tokens, cache=expected).logits
        assert torch.allclose(lm.model(tokens, cache=cache).logits, logits, atol=1e-3)


def test_equal_shares_keep_the_uniform_rows(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    even = BudgetProfile(torch.tensor([16]), torch.ones(1, 4, 2))
    plans = [
        Plan(JudgeQ(), 9),
        Plan(JudgeQ(selection=replace(JudgeQ.selection, allocation="profile")), 9, even),
    ]
    uniform, ragged = prefill(lm, ids, plans, soft_tokens=soft).retained
    for ours, theirs in zip(ragged.kept, uniform.kept, strict=True):
        assert torch.equal(torch.stack(ours), theirs[0])
    for tokens in (NEW[:, :1], NEW[:, 1:4]):
        logits = lm.model(tokens, cache=uniform.cache).logits
        assert torch.allclose(lm.model(tokens, cache=ragged.cache).logits, logits, atol=1e-3)


@pytest.mark.parametrize("allocation", ["adakv", "profile", "profile+adakv"])
@pytest.mark.parametrize("budget", [1, 2, 9, 40, 89])
def test_only_kept_rows_are_stored_and_never_more_than_the_budget(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, allocation: str, budget: int
) -> None:
    retained = read(lm, ids, soft, allocation, budget).retained[0]
    kept = torch.tensor(counts(retained))
    assert int(kept.min()) >= 1
    assert int(kept.sum()) <= 4 * 2 * budget
    assert retained.cache.kv_bytes == int(kept.sum()) * 16 * 2 * 4  # numbers, keys and values, bytes
    for layer, heads in zip(retained.cache.layers, kept.tolist(), strict=True):
        assert layer.frozen.keys.shape == (sum(heads), 16)
        assert storage_bytes([layer.frozen.values]) == sum(heads) * 16 * 4
    if "profile" not in allocation:
        assert (kept.sum(1) == 2 * budget).all()


def packed_attention(
    queries: Tensor, keys: Tensor, values: Tensor, asked: Tensor, rows: Tensor, most_asked: int, most: int
) -> tuple[Tensor, Tensor]:
    """What PyTorch's kernel for sequences of different length computes, one sequence after the other."""
    outputs, masses = [], []
    assert (int(asked.diff().max()), int(rows.diff().max())) == (most_asked, most)
    assert asked.dtype == rows.dtype == torch.int32
    for at in range(len(asked) - 1):
        asking, seen = (slice(int(ends[at]), int(ends[at + 1])) for ends in (asked, rows))
        logits = queries[asking, 0] @ keys[seen, 0].T
        outputs.append(logits.softmax(-1) @ values[seen, 0])
        masses.append(logits.logsumexp(-1))
    return torch.cat(outputs)[:, None], torch.cat(masses)[None]


@pytest.mark.parametrize("chunks", [(1, 1, 1), (6,), (2, 1, 3)])
def test_one_call_for_all_heads_gives_the_same(
    lm: LanguageModel,
    ids: Tensor,
    soft: SoftTokenTensors,
    chunks: Sequence[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = read(lm, ids, soft).retained[0].cache
    fork = cache.fork()
    new = NEW[:, : sum(chunks)].split(list(chunks), 1)
    expected = [lm.model(tokens, cache=cache).logits for tokens in new]
    monkeypatch.setattr(ragged, "varlen_kernel", lambda queries: packed_attention)
    for tokens, logits in zip(new, expected, strict=True):
        assert torch.allclose(lm.model(tokens, cache=fork).logits, logits, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("count", [1, 5])
def test_the_kernel_of_a_gpu_gives_what_each_head_gives(count: int) -> None:
    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device="cuda", dtype=torch.bfloat16)

    rows, tail = FrozenRows(random(70, 64), random(70, 64), (1, 60, 9)), random(2, 1, 3, 7, 64)
    queries = random(1, 9, count, 64)
    if ragged.varlen_kernel(queries) is None:
        pytest.skip("this PyTorch has no kernel for sequences of different length")
    found = rows.attention(queries, *tail, 0.125)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ragged, "varlen_kernel", lambda queries: None)
        assert torch.allclose(found, rows.attention(queries, *tail, 0.125), atol=2e-2)


def test_the_tail_is_counted_too(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    cache = read(lm, ids, soft).retained[0].cache
    before = cache.kv_bytes
    assert cache.rows == 4 * 9
    lm.model(NEW, cache=cache)
    assert cache.kv_bytes == before + 4 * 2 * 6 * 16 * 2 * 4
    assert cache.rows == 4 * (9 + 6)


def test_rows_are_the_mean_over_heads_rounded_up(lm: LanguageModel) -> None:
    cache = RetainedCache(lm.model.config)
    rows = torch.randn(1, 2, 9, 4)
    cache.fill(0, rows, rows, (torch.tensor([1, 3]), torch.tensor([0, 1, 2, 8, 7])), seen=9)
    assert cache.rows == 4
    cache.fill(1, rows, rows, (torch.tensor([1, 3]), torch.tensor([0])), seen=9)
    assert cache.rows == 5


def test_rows_go_layer_by_layer(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    for allocation in ("adakv", "profile"):
        peak = read(lm, ids, soft, allocation).peak_rows
        assert peak <= 4 * 9 + TOKENS + 5 < 4 * TOKENS


def test_a_fork_is_not_changed_by_the_other_continuation(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    outcome = read(lm, ids, soft)
    cache = outcome.retained[0].cache
    fork, copied = cache.fork(), copy.deepcopy(cache)
    expected = written(lm, cache, outcome.logits, 5)
    assert cache.get_seq_length() == TOKENS + 4
    for other, shared in ((fork, True), (copied, False)):
        assert (other.layers[1].frozen.keys is cache.layers[1].frozen.keys) == shared
        assert other.get_seq_length() == TOKENS
        assert other.kv_bytes == other.row_bytes == cache.row_bytes - 4 * 2 * 4 * 16 * 2 * 4
        assert written(lm, other, outcome.logits, 5) == expected


def test_decoded_tokens_can_be_taken_back_and_the_prompt_cannot(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    cache = read(lm, ids, soft).retained[0].cache
    expected = lm.model(NEW, cache=cache.fork()).logits
    lm.model(NEW[:, :2], cache=cache)
    lm.model(NEW[:, :3], cache=cache)
    cache.crop(-3)
    assert cache.get_seq_length() == TOKENS + 2
    logits = lm.model(NEW[:, 2:], cache=cache).logits
    assert torch.allclose(logits, expected[:, 2:], atol=1e-4)
    with pytest.raises(ValueError, match="at most 6 tokens"):
        cache.crop(-7)


def test_after_a_reset_it_is_an_ordinary_empty_cache(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    cache = read(lm, ids, soft).retained[0].cache
    cache.reset()
    assert (cache.get_seq_length(), cache.kv_bytes, cache.rows) == (0, 0, 0)
    expected = lm.model(torch.cat([ids, NEW], 1)).logits[:, -6:]
    lm.model(ids, cache=cache)
    assert torch.allclose(lm.model(NEW, cache=cache).logits, expected, atol=1e-4)


def test_one_prompt_at_a_time(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    with pytest.raises(InputError, match="batch has 2"):
        read(lm, torch.cat([ids, ids]), soft)
    cache = read(lm, ids, soft).retained[0].cache
    with pytest.raises(InputError, match="batch has 2"):
        lm.model(torch.cat([NEW, NEW]), cache=cache)


def test_incomplete_rows_are_no_reference(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    with pytest.raises(ModelError, match="kept fewer"):
        read(lm, ids, soft).retained[0].cache.frozen()


def test_half_precision_costs_only_its_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    rows, tail = (
        torch.randn((1, 2, 40, 16), generator=generator),
        torch.randn((1, 2, 3, 16), generator=generator),
    )
    queries = torch.randn((1, 6, 2, 16), generator=generator)
    kept = (torch.arange(0, 40, 3), torch.tensor([5]))

    def attended(dtype: torch.dtype) -> Tensor:
        frozen = FrozenRows.pick(rows.to(dtype), -rows.to(dtype), kept)
        return frozen.attention(queries.to(dtype), tail.to(dtype), tail.to(dtype), 0.25)

    exact, rounded = attended(torch.float32), attended(torch.bfloat16)
    assert rounded.dtype == torch.bfloat16
    assert exact.shape == rounded.shape == (1, 2, 6, 16)
    assert torch.allclose(rounded.float(), exact, atol=0.05)


def test_the_map_shows_what_each_head_keeps(lm: LanguageModel, soft: SoftTokenTensors) -> None:
    prompt = build_prompt(lm, "The harbour lies in the north. Every ship pays 3 crowns. " * 4, "Who pays?")
    plans = [Plan(JudgeQ(selection=ADAKV), 9), Plan(Full(), prompt.tokens)]
    retained = prefill(lm, prompt.input_ids, plans, soft_tokens=soft).retained[0]
    found = retention_map(lm, prompt, retained)
    assert found.kept_rows.tolist() == counts(retained)
    assert found.budget == 9
    again = judgeq.RetentionMap.from_json(found.to_json())
    assert again.kept_rows.tolist() == counts(retained)
    assert again.to_html() == found.to_html()
    assert found.layer_profile(10).shape == (4, 10)


def test_a_missing_profile_is_said_before_anything_is_read(lm: LanguageModel, ids: Tensor) -> None:
    with pytest.raises(InputError, match="soft tokens carry none"):
        Plan(SnapKV(selection=Selection(allocation="profile")), 8)
    other = BudgetProfile(torch.tensor([8]), torch.ones(1, 3, 2))
    with pytest.raises(InputError, match="another model"):
        prefill(lm, ids, [Plan(SnapKV(selection=Selection(allocation="profile")), 8, other)])


def test_frozen_rows_stay_off_the_stored_tail(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    layer = read(lm, ids, soft).retained[0].cache.layers[0]
    assert isinstance(layer, RaggedLayer)
    keys, _ = layer.update(torch.zeros(1, 2, 1, 16), torch.zeros(1, 2, 1, 16))
    assert keys.own_attention is layer.frozen
    assert not hasattr(layer.keys, "own_attention")
