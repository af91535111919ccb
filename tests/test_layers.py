"""Rows are copied now and then, not for every token, and nobody else ever sees them change."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from judgeq.cache.layers import SHARE, STEP, GrowingLayer
from judgeq.cache.retained import RetainedCache
from judgeq.config import Allocation, Selection
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import SnapKV
from judgeq.models.language_model import LanguageModel

TOKENS, BUDGET = 60, 20
IDS = torch.randint(3, 300, (1, TOKENS), generator=torch.Generator().manual_seed(3))
NEW = torch.randint(3, 300, (1, 3 * STEP), generator=torch.Generator().manual_seed(4))


def read(lm: LanguageModel, allocation: Allocation = "uniform") -> RetainedCache:
    method = SnapKV(window=4, selection=Selection(recent=4, pool=3, allocation=allocation))
    return prefill(lm, IDS, [Plan(method, BUDGET)]).retained[0].cache


def go_on(lm: LanguageModel, cache: RetainedCache, tokens: Tensor) -> Tensor:
    """Logits (tokens, V), one token at a time."""
    with torch.inference_mode():
        steps = [lm.model(token, cache=cache).logits[0, -1] for token in tokens.split(1, 1)]
    return torch.stack(steps)


def storages(cache: RetainedCache) -> list[int]:
    return [layer.keys.untyped_storage().data_ptr() for layer in cache.layers]


@pytest.mark.parametrize("allocation", ["uniform", "adakv"])
def test_many_tokens_share_one_storage_and_room_is_counted(lm: LanguageModel, allocation: Allocation) -> None:
    cache = read(lm, allocation)
    assert cache.kv_bytes == cache.row_bytes
    go_on(lm, cache, NEW[:, :2])
    seen = {tuple(storages(cache))}
    for token in NEW[:, 2:].split(1, 1):
        go_on(lm, cache, token)
        seen.add(tuple(storages(cache)))
    assert len(seen) <= 4
    a_row = 4 * 2 * 16 * 2 * 4  # layers, heads, numbers, keys and values, bytes
    assert cache.row_bytes == (BUDGET + 3 * STEP) * a_row
    held = BUDGET + 3 * STEP
    assert cache.row_bytes < cache.kv_bytes <= cache.row_bytes + (1 + max(STEP, held // SHARE)) * a_row


def test_a_long_cache_gets_little_room(lm: LanguageModel) -> None:
    cache, rows = RetainedCache(lm.model.config), torch.randn(1, 2, 4000, 16)
    cache.layers[0].retain(rows, rows.clone(), 4000)
    cache.layers[0].update(rows[:, :, :1], rows[:, :, :1])
    assert cache.kv_bytes == 2 * 2 * 16 * 4 * (4001 + 4000 // SHARE)


def test_several_tokens_at_once_get_no_room_beyond_them(lm: LanguageModel) -> None:
    cache = read(lm)
    with torch.inference_mode():
        lm.model(NEW[:, :9], cache=cache)
    assert cache.kv_bytes == cache.row_bytes == 4 * (BUDGET + 9) * 256


def test_rows_that_are_expected_have_their_room_from_the_start() -> None:
    layer, rows = GrowingLayer(expected=50), torch.randn(2, 1, 2, 50, 16)
    stored = set()
    for first, last in ((0, 20), (20, 21), (21, 50)):
        keys, values = layer.update(*rows[:, :, :, first:last])
        assert torch.equal(torch.stack((keys, values)), rows[:, :, :, :last])
        stored.add(keys.untyped_storage().data_ptr())
    assert len(stored) == 1
    assert keys.untyped_storage().nbytes() == 50 * 2 * 16 * 4


@pytest.mark.parametrize("allocation", ["uniform", "adakv"])
def test_whoever_shares_the_rows_never_sees_them_change(lm: LanguageModel, allocation: Allocation) -> None:
    cache = read(lm, allocation)
    go_on(lm, cache, NEW[:, :5])
    fork, copied = cache.fork(), copy.deepcopy(cache)
    expected = go_on(lm, fork, NEW[:, 5:12])
    later = fork.fork()
    go_on(lm, cache, NEW[:, 20:30])  # into room that lies behind rows of all three
    cache.crop(-12)
    go_on(lm, cache, NEW[:, 30:40])
    assert torch.allclose(go_on(lm, copied, NEW[:, 5:12]), expected, atol=1e-5)
    assert torch.allclose(go_on(lm, later, NEW[:, 12:15]), go_on(lm, copied, NEW[:, 12:15]), atol=1e-5)


def test_taking_tokens_back_and_going_on_otherwise(lm: LanguageModel) -> None:
    cache, plain = read(lm), read(lm)
    go_on(lm, cache, NEW[:, :6])
    held = cache.layers[0].keys
    before = held.clone()
    cache.crop(-4)
    again = go_on(lm, cache, NEW[:, 10:14])
    assert torch.allclose(go_on(lm, plain, torch.cat([NEW[:, :2], NEW[:, 10:14]], 1))[2:], again, atol=1e-5)
    assert torch.equal(held, before)


def test_beams_are_reordered(lm: LanguageModel) -> None:
    ids = IDS.expand(2, -1)
    full = prefill(lm, ids, [Plan(SnapKV(window=4), TOKENS)]).retained[0].cache
    plain = DynamicCache(config=lm.model.config)
    lm.model(ids, cache=plain)
    for tokens, order in zip(NEW[:, :6].reshape(3, 2, 1), ([1, 1], [0, 1], [1, 0]), strict=True):
        found, expected = lm.model(tokens, cache=full).logits, lm.model(tokens, cache=plain).logits
        assert torch.allclose(found, expected, atol=1e-4)
        for cache in (full, plain):
            cache.reorder_cache(torch.tensor(order))


def test_a_cache_filled_in_inference_mode_goes_on_outside_of_it(lm: LanguageModel) -> None:
    cache, plain = read(lm), read(lm)
    go_on(lm, cache, NEW[:, :3])
    with torch.no_grad():
        outside = [lm.model(token, cache=cache).logits[0, -1] for token in NEW[:, 3:6].split(1, 1)]
    assert torch.allclose(torch.stack(outside), go_on(lm, plain, NEW[:, :6])[3:], atol=1e-5)
