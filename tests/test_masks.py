"""Attention masks of later turns are honoured by every cache, as transformers' own cache honours them, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from judgeq.cache.prefix import PrefixCache
from judgeq.cache.retained import RetainedCache
from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.inference.decode_batch import PaddedCache
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import Full, Method, SnapKV
from judgeq.models.language_model import LanguageModel
from tests.fixtures import MakeLM

TOKENS, TURN, PADDING, BUDGET = 40, 6, 2, 12
IDS = torch.randint(3, 300, (2, TOKENS), generator=torch.Generator().manual_seed(1))
NEW = torch.randint(3, 300, (2, TURN), generator=torch.Generator().manual_seed(2))
LAST = torch.randint(3, 300, (2, 1), generator=torch.Generator().manual_seed(3))
SEEN = torch.ones(2, TOKENS + TURN, dtype=torch.int64)
SEEN[1, TOKENS : TOKENS + PADDING] = 0
WIDE = 2 * TOKENS
"""A window of all tokens: transformers counts padding in it, so that a narrow one would show."""
SNAPKV = SnapKV(window=4, selection=Selection(recent=4, pool=3))


def said(lm: LanguageModel, cache: Any, ids: Tensor, mask: Tensor | None = None) -> Tensor:
    """Logits (B, tokens, V) of a turn; positions count what the mask shows."""
    options: dict[str, Any] = {}
    if mask is not None:
        options = {"attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1)[:, -ids.shape[1] :]}
    with torch.inference_mode():
        return lm.model(ids, cache=cache, use_cache=True, **options).logits


def read(lm: LanguageModel, ids: Tensor, method: Method) -> RetainedCache:
    return prefill(lm, ids, [Plan(method, BUDGET)]).retained[0].cache


def test_a_padded_turn_is_read_as_by_transformers_own_cache(each_lm: LanguageModel) -> None:
    own, ours = DynamicCache(config=each_lm.model.config), RetainedCache(each_lm.model.config)
    shown = SEEN.clone()
    shown[0, :5] = 0  # the first turn is padded too
    for ids, end in ((IDS, TOKENS), (NEW, TOKENS + TURN)):
        expected, found = (said(each_lm, cache, ids, shown[:, :end]) for cache in (own, ours))
        visible = shown[:, end - ids.shape[1] : end].bool()
        assert torch.allclose(found[visible], expected[visible], atol=2e-4)
    shown = torch.cat([shown, torch.ones(2, 1, dtype=torch.int64)], 1)
    assert torch.allclose(said(each_lm, ours, LAST, shown), said(each_lm, own, LAST, shown), atol=2e-4)


@pytest.mark.parametrize("family", ["llama", "granite", "gemma2"])
@pytest.mark.parametrize("method", [Full(), SNAPKV], ids=["full", "snapkv"])
def test_padding_of_a_later_turn_changes_nothing(make_lm: MakeLM, family: str, method: Method) -> None:
    lm = make_lm(family, sliding_window=WIDE)
    cache = read(lm, IDS, method)
    found = said(lm, cache, NEW, SEEN)
    after = said(lm, cache, LAST, torch.cat([SEEN, torch.ones(2, 1, dtype=torch.int64)], 1))
    for row, padding in enumerate((0, PADDING)):
        alone = read(lm, IDS[row : row + 1], method)
        expected = said(lm, alone, NEW[row : row + 1, padding:])
        assert torch.allclose(found[row, padding:], expected[0], atol=2e-4)
        assert torch.allclose(after[row], said(lm, alone, LAST[row : row + 1])[0], atol=2e-4)


@pytest.mark.parametrize("softcap", [False, True])
@pytest.mark.parametrize("selection", [{"allocation": "adakv"}, {"bits": 4}, {"bits": 8}])
def test_rows_of_single_heads_and_in_few_bits_honour_it_too(
    make_lm: MakeLM, selection: dict[str, Any], softcap: bool
) -> None:
    lm = make_lm("gemma2" if softcap else "llama", sliding_window=WIDE)
    method = SnapKV(window=4, selection=Selection(recent=4, pool=3, **selection))
    padded, alone = (read(lm, IDS[1:], method) for _ in range(2))
    found, expected = said(lm, padded, NEW[1:], SEEN[1:]), said(lm, alone, NEW[1:, PADDING:])
    assert torch.allclose(found[:, PADDING:], expected, atol=2e-4)
    shown = torch.cat([SEEN[1:], torch.ones(1, 1, dtype=torch.int64)], 1)
    assert torch.allclose(said(lm, padded, LAST[1:], shown), said(lm, alone, LAST[1:]), atol=2e-4)
    padded.reset()
    fresh = RetainedCache(lm.model.config)
    for ids, end in ((IDS[1:], TOKENS), (NEW[1:], TOKENS + TURN)):
        found, expected = (said(lm, cache, ids, SEEN[1:, :end]) for cache in (padded, fresh))
        assert torch.allclose(found[:, PADDING:], expected[:, PADDING:], atol=2e-4)


def test_generate_goes_on_with_a_padded_batch(lm: LanguageModel) -> None:
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    ids = torch.cat([IDS, NEW], 1)
    written = lm.model.generate(ids, attention_mask=SEEN, cache=read(lm, IDS, SNAPKV), **options)
    for row, padding in enumerate((0, PADDING)):
        own = torch.cat([IDS[row], NEW[row, padding:]])[None]
        cache = read(lm, IDS[row : row + 1], SNAPKV)
        alone = lm.model.generate(own, attention_mask=torch.ones_like(own), cache=cache, **options)
        assert written[row, -8:].tolist() == alone[0, -8:].tolist()


def test_held_rows_honour_it(lm: LanguageModel) -> None:
    own, held = DynamicCache(config=lm.model.config), PrefixCache(lm.model.config, batch=2)
    for ids, end in ((IDS, TOKENS), (NEW, TOKENS + TURN)):
        expected, found = (said(lm, cache, ids, SEEN[:, :end]) for cache in (own, held))
    assert torch.allclose(found[1, PADDING:], expected[1, PADDING:], atol=2e-4)


def test_a_mask_of_one_own_for_each_query_is_honoured(lm: LanguageModel) -> None:
    mask = torch.ones(TOKENS + TURN, TOKENS + TURN, dtype=torch.bool).tril()[TOKENS:]
    mask[3:, 5:9] = False
    added = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
    for given in (mask, added):
        own, ours = DynamicCache(config=lm.model.config), RetainedCache(lm.model.config)
        for cache in (own, ours):
            said(lm, cache, IDS)
        with torch.inference_mode():
            expected, found = (
                lm.model(NEW, attention_mask=given[None, None].expand(2, -1, -1, -1), cache=cache).logits
                for cache in (own, ours)
            )
        assert torch.allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("allocation", ["uniform", "adakv"])
@pytest.mark.parametrize("turn", [NEW[:1], LAST[:1]], ids=["several tokens", "one token"])
def test_a_mask_that_hides_evicted_tokens_is_refused_before_anything_is_read(
    lm: LanguageModel, allocation: Any, turn: Tensor
) -> None:
    method = SnapKV(window=4, selection=Selection(recent=4, pool=3, allocation=allocation))
    cache = read(lm, IDS[:1], method)
    mask = torch.ones(1, TOKENS + turn.shape[1], dtype=torch.int64)
    mask[0, :3] = 0
    with pytest.raises(InputError, match="hides tokens of the prompt"):
        said(lm, cache, turn, mask)
    with pytest.raises(InputError, match="7 places for"):
        said(lm, cache, turn, torch.tensor([[0, 1, 1, 1, 1, 1, 1]]))
    assert torch.equal(said(lm, cache, turn), said(lm, read(lm, IDS[:1], method), turn))


def test_answers_side_by_side_take_no_mask(lm: LanguageModel) -> None:
    cache = PaddedCache([read(lm, IDS[row : row + 1], SNAPKV) for row in range(2)], 4)
    mask = torch.ones(2, TOKENS + 1, dtype=torch.int64)
    said(lm, cache, LAST, mask)
    mask = torch.cat([mask, mask[:, :1]], 1)
    mask[0, 2] = 0
    with pytest.raises(InputError, match="take no attention mask"):
        said(lm, cache, LAST, mask)
    with pytest.raises(InputError, match="one token at a time"):
        said(lm, cache, NEW)


def test_no_mask_is_made_where_nothing_is_hidden(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = read(lm, IDS, SNAPKV)
    monkeypatch.setattr("judgeq.attention.registry.sdpa_mask", lambda **sizes: pytest.fail("a mask was made"))
    said(lm, cache, NEW, torch.ones_like(SEEN))
    said(lm, cache, LAST)
