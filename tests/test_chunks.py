"""A prompt read in chunks: the rows, scores and logits of one pass, for every method and family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import pytest
import torch
from torch import Tensor

from judgeq.attention.causal import UnmaskedCausal
from judgeq.cache.prefix import pass_sizes
from judgeq.config import Allocation, Decoding, Selection
from judgeq.errors import InputError
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import Prefill, prefill
from judgeq.inference.request import Request
from judgeq.methods import H2O, METHODS, Full, JudgeQ, LayerView, Method, SnapKV, question_methods
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import MakeLM
from tests.rounding import moved_rows
from tests.test_profile import profile

TOKENS, SOFT = 90, 5
SHORT = Decoding(max_new_tokens=6)
LEVELLED = ("gemma3_text", "qwen3", "qwen3_moe")
"""Families that norm the keys of each head."""


@pytest.fixture
def soft(soft_with_offsets: SoftTokenTensors) -> SoftTokenTensors:
    return soft_with_offsets


def every_method(lm: LanguageModel) -> list[Method]:
    """All of them; keys that the model makes equally long leave key norms to rounding."""
    levelled = lm.model.config.model_type in LEVELLED
    return [METHODS[name]() for name in question_methods() if not (levelled and name == "keynorm")]


def assert_same(ours: Retained, theirs: Retained) -> None:
    moved = moved_rows(ours.kept, theirs.kept, theirs.scores)
    for mine, other in zip(ours.scores, theirs.scores, strict=True):
        assert (mine is None) == (other is None)
        assert mine is None or torch.allclose(mine, other, rtol=1e-4, atol=1e-4)
    for mine, other in zip(ours.cache._tensors(), theirs.cache._tensors(), strict=True):
        assert moved or torch.allclose(mine, other, atol=1e-4)
    assert ours.cache.get_seq_length() == theirs.cache.get_seq_length() == TOKENS
    assert ours.cache.kv_bytes == theirs.cache.kv_bytes


def assert_as_in_one_pass(found: Prefill, whole: Prefill) -> None:
    assert torch.allclose(found.logits, whole.logits, atol=1e-3)
    assert found.full_kv_bytes == whole.full_kv_bytes
    for ours, theirs in zip(found.retained, whole.retained, strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("chunk", [7, 40, 64])
def test_every_method_keeps_what_it_keeps_in_one_pass(
    some_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, chunk: int
) -> None:
    plans = [Plan(method, 40) for method in every_method(some_lm)] + [Plan(H2O(average=True), 40)]
    whole, found = (
        prefill_with_lookahead(Request(some_lm, ids, plans, SHORT, soft, chunk=size)) for size in (None, chunk)
    )
    assert_as_in_one_pass(found, whole)


def test_allocations_sinks_and_values_do_not_mind_chunks(
    some_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    plans = [
        Plan(
            method(selection=Selection(sinks=3, recent=4, allocation=allocation, value_aware=aware)),
            20,
            learned,
        )
        for method in (JudgeQ, SnapKV, H2O)
        for allocation in get_args(Allocation)
        for aware in (False, True)
        for learned in [profile(8, 64, layers=len(some_lm.geometry.global_layers))]
    ]
    whole = prefill(some_lm, ids, plans, soft_tokens=soft)
    assert_as_in_one_pass(prefill(some_lm, ids, plans, soft_tokens=soft, chunk=16), whole)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("mistral", {"sliding_window": 24}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 2}),
    ],
)
@pytest.mark.parametrize("chunk", [7, 24, 60])
def test_layers_with_a_sliding_window_keep_their_window(
    make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors, family: str, changes: dict, chunk: int
) -> None:
    lm = make_lm(family, **changes)
    plans = [Plan(JudgeQ(), 9), Plan(H2O(), 40), Plan(SnapKV(), 40), Plan(Full(), TOKENS)]
    whole = prefill(lm, ids, plans, soft_tokens=soft)
    found = prefill(lm, ids, plans, soft_tokens=soft, chunk=chunk)
    assert_as_in_one_pass(found, whole)
    new = torch.tensor([[5, 6, 7]])
    for ours, theirs in zip(found.retained, whole.retained, strict=True):
        logits = lm.model(new, cache=theirs.cache).logits
        assert torch.allclose(lm.model(new, cache=ours.cache).logits, logits, atol=1e-3)


def test_a_batch_is_read_in_chunks(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    batch, plans = torch.cat([ids, ids.flip(1)]), [Plan(JudgeQ(), 8), Plan(H2O(), 40)]
    whole = prefill(lm, batch, plans, soft_tokens=soft)
    assert_as_in_one_pass(prefill(lm, batch, plans, soft_tokens=soft, chunk=20), whole)


def test_the_rows_of_all_layers_are_counted_and_go_with_the_last_chunk(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    found = prefill(lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=soft, chunk=20)
    early, complete = TOKENS - 20, TOKENS + SOFT
    assert found.peak_rows == max(8 * (done + 1) + complete + early * (3 - done) for done in range(4))
    assert found.retained[0].cache.kv_bytes == 4 * 8 * 256
    one = prefill(lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=soft)
    assert one.peak_rows == 4 * 8 + complete < found.peak_rows


def test_progress_is_told_of_every_chunk(lm: LanguageModel, ids: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    prefill(lm, ids, [Plan(SnapKV(), 40)], chunk=40, on_layer=lambda *done: seen.append(done))
    assert seen == [(done, 12) for done in range(1, 13)]


@pytest.mark.parametrize("chunk", [0, -1, 1.5, float("nan"), True])
def test_a_chunk_has_tokens(lm: LanguageModel, ids: Tensor, chunk: int) -> None:
    with pytest.raises(InputError, match="chunk is"):
        prefill(lm, ids, [Plan(SnapKV(), 40)], chunk=chunk)


@pytest.mark.parametrize(
    ("tokens", "chunk", "last", "expected"),
    [
        (90, None, 32, [90]),
        (90, 90, 32, [90]),
        (90, 200, 32, [90]),
        (90, 40, 32, [40, 10, 40]),
        (80, 40, 1, [40, 40]),
        (90, 10, 32, [10, 10, 10, 10, 10, 8, 32]),
        (5, 2, 32, [5]),
        (1, 1, 1, [1]),
    ],
)
def test_the_last_pass_is_long_enough(tokens: int, chunk: int | None, last: int, expected: list[int]) -> None:
    assert pass_sizes(tokens, chunk, last) == expected


@dataclass(frozen=True)
class Wide(Method):
    """Looks at 30 queries, or at all, and says what it is told to."""

    name = "wide"
    everything: bool = False
    says: int | None = 0

    @property
    def queries_needed(self) -> int | None:
        return self.says

    def score(self, view: LayerView) -> Tensor:
        found = view.accumulated_attention() if self.everything else view.window_attention(30)
        return found.mean(2)


@pytest.mark.parametrize("everything", [False, True])
def test_a_method_must_say_which_queries_it_needs(lm: LanguageModel, ids: Tensor, everything: bool) -> None:
    plans = [Plan(Wide(everything=everything), 40)]
    whole = prefill(lm, ids, plans)
    prefill(lm, ids, [Plan(Wide(), 40)], chunk=30)
    with pytest.raises(InputError, match="queries_needed"):
        prefill(lm, ids, plans, chunk=29)
    told = [Plan(Wide(everything=everything, says=None if everything else 30), 40)]
    assert_as_in_one_pass(prefill(lm, ids, told, chunk=29), whole)


def test_a_method_that_says_nothing_gets_the_sums(lm: LanguageModel, ids: Tensor) -> None:
    class Silent(Method):
        name = "silent"

        def score(self, view: LayerView) -> Tensor:
            return view.accumulated_attention().mean(2)

    plans = [Plan(Silent(), 40)]
    assert_as_in_one_pass(prefill(lm, ids, plans, chunk=29), prefill(lm, ids, plans))


@pytest.mark.parametrize("softcap", [None, 0.5])
@pytest.mark.parametrize("behind", [0, 3, 700])
@pytest.mark.parametrize("count", [1, 2, 300])
def test_tokens_behind_rows_attend_as_with_a_mask(behind: int, count: int, softcap: float | None) -> None:
    generator = torch.Generator().manual_seed(3)
    queries = torch.randn(2, 6, count, 8, generator=generator)
    keys, values = torch.randn(2, 2, 2, behind + count, 8, generator=generator)
    logits = queries @ keys.repeat_interleave(3, 1).transpose(2, 3) * 0.3
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    hidden = torch.ones(count, behind + count).triu(behind + 1).bool()
    expected = logits.masked_fill(hidden, -torch.inf).softmax(-1) @ values.repeat_interleave(3, 1)
    found = UnmaskedCausal().attention(queries, keys, values, 0.3, softcap)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-5)
