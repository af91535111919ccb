"""The responses that methods score with: greedy, without their end, and shared by all plans that need the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from judgeq.cache.prefix import LayerCallback
from judgeq.config import Decoding
from judgeq.inference import lookahead
from judgeq.inference.decode import decode
from judgeq.inference.lookahead import prefill_many, prefill_with_lookahead
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import Prefill, prefill, second_pass
from judgeq.inference.request import Request, reserved_positions
from judgeq.methods import LAQ, Full, JudgeQ, JudgeQDraft, Oracle, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import WINDOW, MakeLM
from tests.rounding import moved_rows
from tests.test_prefill import attention_of

SHORT = Decoding(max_new_tokens=6)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(3, 300, (1, 60), generator=torch.Generator().manual_seed(5))


def retain(
    lm: LanguageModel, ids: Tensor, plans: list[Plan], on_layer: LayerCallback | None = None, **options: Any
) -> Prefill:
    return prefill_with_lookahead(Request(lm, ids, plans, **options), on_layer=on_layer)


def written(lm: LanguageModel, ids: Tensor) -> list[int]:
    return lm.model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=2)[0, 60:].tolist()


@pytest.mark.parametrize("end", [0, 3])
def test_the_end_token_is_left_out_unless_it_is_all(make_lm: MakeLM, ids: Tensor, end: int) -> None:
    lm = make_lm()
    answer = written(lm, ids)
    assert answer[end] not in answer[:end]
    lm.__dict__["eos_ids"] = frozenset({answer[end]})
    decoding = Decoding(max_new_tokens=6, temperature=1.0)
    outcome = retain(lm, ids, [Plan(Full(), 60), Plan(Oracle(), 9)], decoding=decoding)
    assert outcome.response.tolist() == [answer[:end] or answer[:1]]
    assert outcome.retained[0].cache.get_seq_length() == 60


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])  # the second writes one answer after the other
def test_a_response_can_be_given_up_while_it_is_written(
    make_lm: MakeLM, ids: Tensor, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    class Enough(Exception):
        pass

    lm = make_lm(family)
    lm.__dict__["eos_ids"] = frozenset()
    monkeypatch.setattr("judgeq.inference.decode_batch.in_circles", lambda *_: False, raising=False)
    heard: list[tuple[int, int]] = []

    def on_layer(done: int, layers: int) -> None:
        heard.append((done, layers))
        if len(heard) == layers + 3:  # one pass, and three tokens
            raise Enough

    with pytest.raises(Enough):
        retain(lm, ids, [Plan(Oracle(), 9)], decoding=Decoding(max_new_tokens=200), on_layer=on_layer)
    assert heard[-3:] == [(lm.geometry.layers,) * 2] * 3


def test_plans_of_every_kind_come_back_in_their_order(lm: LanguageModel, ids: Tensor) -> None:
    soft = SoftTokenTensors(torch.randn(4, 64, generator=torch.Generator().manual_seed(1)))
    plans = [
        *(Plan(Oracle(), 9), Plan(SnapKV(window=8), 9), Plan(LAQ(), 9), Plan(Oracle(), 20)),
        *(Plan(JudgeQ(), 9), Plan(LAQ(), 20), Plan(LAQ(draft=3), 9)),
    ]
    together = retain(lm, ids, plans, soft_tokens=soft, decoding=SHORT).retained
    assert [kept.plan for kept in together] == plans
    for plan, kept in zip(plans, together, strict=True):
        (alone,) = retain(lm, ids, [plan], soft_tokens=soft, decoding=SHORT).retained
        moved_rows(kept.kept, alone.kept)
    assert [kept.extra_s > 0 for kept in together] == [True, False, True, True, False, True, True]


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text"])
def test_a_second_look_needs_no_more_of_a_sliding_layer_than_its_window(
    make_lm: MakeLM, ids: Tensor, family: str
) -> None:
    """The response is scored as if it stood behind the whole prompt, and the answer from all rows is the full one."""
    lm = make_lm(family)
    lm.__dict__["eos_ids"] = frozenset()
    soft = SoftTokenTensors(torch.randn(4, 64, generator=torch.Generator().manual_seed(1)))
    plans = [
        Plan(Full(), 60),
        Plan(Oracle(), 60),
        Plan(Oracle(), 9),
        Plan(LAQ(), 40),
        Plan(JudgeQDraft(), 40),
    ]
    outcome = retain(lm, ids, plans, soft_tokens=soft, decoding=SHORT)
    response = lm.model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=None)[:, 60:]
    assert outcome.response.tolist() == response.tolist()
    both = torch.cat([ids, response], 1)
    paid = attention_of(lm, lm.model.get_input_embeddings()(both))
    for layer in lm.geometry.global_layers:
        expected = paid[layer][..., 60:, :60].mean(2).reshape(1, 2, 2, 60).mean(2)
        assert torch.allclose(outcome.retained[2].scores[layer], expected, atol=1e-5)
    for kept in outcome.retained:
        assert [layer.get_seq_length() for layer in kept.cache.layers] == [60] * 4
        assert [kept.cache.layers[layer].keys.shape[2] for layer in lm.geometry.sliding] == [WINDOW - 1] * 2
    steps = decode(lm, outcome.retained[1].cache, outcome.logits, SHORT)
    assert [[step.token for step in steps]] == response.tolist()


def test_prompts_that_are_read_in_a_row_keep_what_each_keeps_alone(lm: LanguageModel, ids: Tensor) -> None:
    soft = SoftTokenTensors(torch.randn(3, 64))
    plans = [Plan(SnapKV(), 9), Plan(LAQ(), 9), Plan(JudgeQDraft(draft=4), 12), Plan(Oracle(), 20)]
    prompts = [
        Request(lm, ids, plans, SHORT, soft),
        Request(lm, ids[:, 10:], plans[:1], soft_tokens=soft),
        Request(lm, ids[:, :40], plans, SHORT, soft),
    ]
    for prompt, found in zip(prompts, prefill_many(prompts), strict=True):
        alone = prefill_with_lookahead(prompt)
        for ours, theirs in zip(found.retained, alone.retained, strict=True):
            assert ours.plan == theirs.plan
            moved_rows(ours.kept, theirs.kept)
        assert (found.response is None) == (alone.response is None)


def test_the_second_look_is_at_the_answer_that_generate_gives(lm: LanguageModel, ids: Tensor) -> None:
    rows = prefill(lm, ids, [Plan(Full(), 60)]).retained[0].cache.frozen()
    plan = Plan(Oracle(), 9)
    (expected,) = second_pass(lm, ids, rows, torch.tensor([written(lm, ids)]), [plan]).retained
    (found,) = retain(lm, ids, [plan], decoding=SHORT).retained
    moved_rows(found.kept, expected.kept)


def test_plans_that_look_at_the_same_response_share_it(
    lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[list[int], list[Plan]]] = []

    def look(
        lm: LanguageModel, ids: Tensor, rows: object, response: Tensor, plans: list[Plan], **rest: object
    ) -> Prefill:
        looks.append((response[0].tolist(), plans))
        return second_pass(lm, ids, rows, response, plans, **rest)

    monkeypatch.setattr(lookahead, "second_pass", look)
    group, other = LAQ(group="max"), LAQ(draft=3)
    plans = [Plan(LAQ(), 40), Plan(Oracle(), 9), Plan(other, 40), Plan(group, 40), Plan(Oracle(), 20)]
    retain(lm, ids, [*plans, Plan(LAQ(), 50)], decoding=SHORT)
    grouped = [[plans[0], plans[3]], [plans[1], plans[4]], [plans[2]], [Plan(LAQ(), 50)]]
    assert [found for _, found in looks] == grouped
    assert looks[2][0] == looks[0][0][:3]


def test_a_draft_is_what_snapkv_answers_at_the_same_budget(
    make_lm: MakeLM, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = make_lm()
    lm.__dict__["eos_ids"] = frozenset()
    drafts: list[list[int]] = []

    def look(lm: LanguageModel, ids: Tensor, rows: object, response: Tensor, *rest: Any, **more: Any) -> Prefill:
        drafts.append(response[0].tolist())
        return second_pass(lm, ids, rows, response, *rest, **more)

    monkeypatch.setattr(lookahead, "second_pass", look)
    for budget in (33, 48):
        outcome = prefill(lm, ids, [Plan(SnapKV(), budget)])
        steps = decode(lm, outcome.retained[0].cache, outcome.logits, Decoding(max_new_tokens=20))
        expected = [step.token for step in steps][:8]
        retain(lm, ids, [Plan(LAQ(), budget)], decoding=SHORT)
        assert drafts[-1] == expected
    assert drafts[0] != drafts[1], "the budget would not matter"


def test_the_full_caches_answer_comes_back_when_a_plan_looked_at_it(lm: LanguageModel, ids: Tensor) -> None:
    answer = [token for token in written(lm, ids) if token != 2]
    response = retain(lm, ids, [Plan(SnapKV(), 9), Plan(Oracle(), 9)], decoding=SHORT).response
    assert response is not None
    assert response.tolist() == [answer]
    assert retain(lm, ids, [Plan(SnapKV(), 9)], decoding=SHORT).response is None
    assert retain(lm, ids, [Plan(LAQ(), 9)], decoding=SHORT).response is None


def test_a_full_cache_that_is_asked_for_anyway_is_not_held_twice(lm: LanguageModel, ids: Tensor) -> None:
    alone = retain(lm, ids, [Plan(Full(), 60)])
    beside = retain(lm, ids, [Plan(Full(), 60), Plan(Oracle(), 9)], decoding=SHORT)
    assert beside.peak_rows == alone.peak_rows
    steps = decode(lm, beside.retained[0].cache, beside.logits, SHORT)
    assert [step.token for step in steps] == written(lm, ids)


def test_drafts_and_the_soft_tokens_behind_them_find_positions() -> None:
    assert reserved_positions([JudgeQ(), Oracle()], 32, 10) == 32
    assert reserved_positions([JudgeQ(), JudgeQDraft(draft=6)], 32, 10) == 38
    assert reserved_positions([LAQ()], 0, 100) == 100
    assert reserved_positions([], 0, 0) == 0
