"""Answers written side by side are those that are written alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from judgeq.config import Allocation, Decoding, Selection
from judgeq.errors import InputError
from judgeq.inference import decode_batch as batch
from judgeq.inference.decode import decode
from judgeq.inference.decode_batch import (
    PendingAnswer,
    Settled,
    decode_together,
    in_circles,
    never_settled,
    settled_text,
)
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill, prefill
from judgeq.methods import Full, SnapKV, StreamingLLM
from judgeq.models.language_model import LanguageModel
from tests.fixtures import TEXT, MakeLM

LONG = Decoding(max_new_tokens=12)


def read(lm: LanguageModel, allocation: Allocation = "uniform", text: str = TEXT) -> Prefill:
    """A prompt kept whole, and by two methods at two budgets."""
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    snapkv = SnapKV(window=4, selection=Selection(recent=4, pool=3, allocation=allocation))
    plans = [
        Plan(Full(), ids.shape[1]),
        *(Plan(method, budget) for method in (snapkv, StreamingLLM()) for budget in (9, 40)),
    ]
    return prefill(lm, ids, plans)


def alone(lm: LanguageModel, outcome: Prefill, decoding: Decoding = LONG) -> list[str]:
    return [
        "".join(step.text for step in decode(lm, kept.cache.fork(), outcome.logits, decoding))
        for kept in outcome.retained
    ]


def together(
    lm: LanguageModel,
    outcome: Prefill,
    decoding: Decoding = LONG,
    settled: Settled = never_settled,
    move: bool = False,
) -> list[str]:
    answers = [PendingAnswer(kept.cache, outcome.logits, decoding, settled) for kept in outcome.retained]
    return [written.text for written in decode_together(lm, answers, move=move)]


def test_side_by_side_and_alone_are_the_same_in_every_family(each_lm: LanguageModel) -> None:
    outcome = read(each_lm)
    texts = together(each_lm, outcome)
    assert texts == alone(each_lm, outcome)
    assert len(set(texts)) > 2


def test_heads_with_budgets_of_their_own_stand_beside_even_ones(some_lm: LanguageModel) -> None:
    outcome = read(some_lm, "adakv")
    assert isinstance(outcome.retained[1].kept[-1], tuple)
    assert together(some_lm, outcome) == alone(some_lm, outcome)


@pytest.mark.parametrize("allocation", ["uniform", "adakv"])
def test_soft_caps_hold_side_by_side(make_lm: MakeLM, allocation: Allocation) -> None:
    lm = make_lm("gemma2", layer_types=["full_attention"] * 4, attn_logit_softcapping=1.0)
    outcome = read(lm, allocation)
    texts = together(lm, outcome)
    assert texts == alone(lm, outcome)
    assert len(set(texts)) > 2


def test_answers_to_prompts_of_different_length_stand_side_by_side(some_lm: LanguageModel) -> None:
    long, short = read(some_lm), read(some_lm, text=TEXT[40:150])
    brief = Decoding(max_new_tokens=5)
    answers = [
        PendingAnswer(kept.cache, outcome.logits, decoding)
        for outcome, decoding in ((long, LONG), (short, brief))
        for kept in outcome.retained
    ]
    written = [each.text for each in decode_together(some_lm, answers)]
    assert written == [*alone(some_lm, long), *alone(some_lm, short, brief)]


def test_tokens_are_told_with_the_text(lm: LanguageModel) -> None:
    outcome = read(lm)
    (written,) = decode_together(lm, [PendingAnswer(outcome.retained[1].cache, outcome.logits, LONG)])
    steps = list(decode(lm, outcome.retained[1].cache.fork(), outcome.logits, LONG))
    assert written.tokens == [step.token for step in steps]


def test_the_caches_stay_as_they_were(lm: LanguageModel) -> None:
    outcome = read(lm)
    rows = [kept.cache.rows for kept in outcome.retained]
    first = together(lm, outcome)
    assert [kept.cache.rows for kept in outcome.retained] == rows
    assert together(lm, outcome) == first
    assert together(lm, outcome, move=True) == first
    assert not any(kept.cache.rows for kept in outcome.retained)


def test_a_sliding_window_is_decoded_one_by_one(make_lm: MakeLM) -> None:
    lm = make_lm("mistral", sliding_window=24)
    outcome = read(lm)
    assert together(lm, outcome) == alone(lm, outcome)


def test_stop_texts_end_each_answer_where_it_has_one(lm: LanguageModel) -> None:
    outcome = read(lm)
    texts = alone(lm, outcome)
    stop = Decoding(max_new_tokens=12, stop=(texts[1][3:5],))
    assert together(lm, outcome, stop) == alone(lm, outcome, stop) != texts


def test_finished_answers_leave_the_batch(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = read(lm)
    texts = alone(lm, outcome)
    sizes: list[int] = []
    step = batch.next_tokens

    def counted(lm: LanguageModel, cache: Any, tokens: Sequence[int]) -> list[int]:
        sizes.append(len(tokens))
        return step(lm, cache, tokens)

    monkeypatch.setattr(batch, "next_tokens", counted)
    ends = {texts[at][:4] for at in (0, 1, 2, 3)}
    found = together(lm, outcome, settled=lambda text: text[:4] in ends and len(text) >= 4)
    assert all(text.startswith(short) for text, short in zip(texts, found, strict=True))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == 5
    assert sizes[-1] < 5


def test_known_tokens_give_the_text_that_was_written(lm: LanguageModel) -> None:
    outcome = read(lm)
    cache = outcome.retained[0].cache
    steps = list(decode(lm, cache.fork(), outcome.logits, LONG))
    tokens = [step.token for step in steps if step.token not in lm.eos_ids]
    whole = "".join(step.text for step in steps)

    def text(decoding: Decoding = LONG, settled: Settled = never_settled) -> str:
        return settled_text(lm, tokens, PendingAnswer(cache, outcome.logits, decoding, settled))

    assert text() == whole
    short = text(settled=lambda text: len(text) >= 3)
    assert whole.startswith(short)
    assert 3 <= len(short) < len(whole)
    stop = Decoding(max_new_tokens=12, stop=(whole[4:6],))
    assert text(stop) == whole[: whole.index(whole[4:6])]


@pytest.mark.parametrize(
    ("tokens", "circling"),
    [
        ([7] * 16, True),
        ([7] * 15, False),
        ([1, 2] + [3, 4, 5] * 6, True),
        ([3, 4, 5] * 5, False),  # too short
        ([*range(8)] * 2, False),  # twice only
        ([*range(8)] * 3, True),
        ([9] * 16 + [1], False),
        ([*range(20)] * 3, True),
        ([*range(16)], False),
        ([], False),
    ],
)
def test_an_answer_goes_in_circles_when_it_ends_with_one_sequence_three_times(
    tokens: list[int], circling: bool
) -> None:
    assert in_circles(tokens) is circling


def test_an_answer_that_goes_in_circles_ends_where_that_is_asked_for(make_lm: MakeLM) -> None:
    lm = make_lm()
    head = lm.model.lm_head  # the same word again and again:
    torch.nn.init.zeros_(head.weight)
    head.bias = torch.nn.Parameter(torch.eye(len(head.weight))[40], requires_grad=False)
    lm.__dict__["eos_ids"] = frozenset()
    outcome = read(lm)
    caches = [kept.cache for kept in outcome.retained]
    long = Decoding(max_new_tokens=40)
    answers = [
        PendingAnswer(cache, outcome.logits, long, until_circles=cut) for cache in caches for cut in (False, True)
    ]
    written = decode_together(lm, answers)
    assert [len(each.tokens) for each in written] == [40, 16] * len(caches)
    assert settled_text(lm, written[0].tokens, answers[1]) == written[1].text != written[0].text


def test_sampling_is_refused_and_nothing_gives_nothing(lm: LanguageModel) -> None:
    outcome = read(lm)
    with pytest.raises(InputError, match="greedy"):
        together(lm, outcome, Decoding(temperature=1.0))
    assert decode_together(lm, []) == []


def test_padding_is_never_attended_to(lm: LanguageModel) -> None:
    outcome = read(lm)
    caches = [kept.cache for kept in outcome.retained]
    expected = together(lm, outcome)
    padded = batch.PaddedRows([cache.layers[0] for cache in caches], 3)
    hidden = ~padded.visible[..., : padded.length].squeeze(2)  # (P, H_kv, R)
    assert int(hidden.sum()) > 0

    class Dirty(batch.PaddedRows):
        def __init__(self, layers: Sequence[Any], new: int) -> None:
            super().__init__(layers, new)
            out: Tensor = ~self.visible.squeeze(2)
            self.keys[out] = 50.0
            self.values[out] = 50.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "PaddedRows", Dirty)
        assert together(lm, outcome) == expected
    assert torch.equal(padded.visible[0].sum(-1).flatten(), torch.tensor([padded.visible.shape[-1]] * 2))
