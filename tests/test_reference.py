"""The full cache's own answer: greedy, without its end, and the same for everyone who looks at it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from judgeq.config import Decoding
from judgeq.language_model import LanguageModel
from judgeq.methods import Full, JudgeQ, Oracle, SnapKV
from judgeq.prefill import Plan, prefill, probe
from judgeq.reference import greedy_response, retain
from judgeq.soft_tokens import Probe

SHORT = Decoding(max_new_tokens=6)


@pytest.fixture(scope="module")
def ids() -> Tensor:
    return torch.randint(3, 300, (1, 60), generator=torch.Generator().manual_seed(5))


def written(lm: LanguageModel, ids: Tensor) -> list[int]:
    return lm.model.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=2)[0, 60:].tolist()


@pytest.mark.parametrize("end", [0, 3])
def test_the_end_token_is_left_out_unless_it_is_all(
    make_lm: Callable[..., LanguageModel], ids: Tensor, end: int
) -> None:
    lm = make_lm()
    answer = written(lm, ids)
    assert answer[end] not in answer[:end]
    lm.__dict__["eos_ids"] = frozenset({answer[end]})
    outcome = prefill(lm, ids, [Plan(Full(), 60)])
    rows = outcome.retained[0].cache
    response = greedy_response(lm, rows, outcome.logits, Decoding(max_new_tokens=6, temperature=1.0))
    assert response.tolist() == [answer[:end] or answer[:1]]
    assert rows.get_seq_length() == 60


def test_plans_of_every_kind_come_back_in_their_order(lm: LanguageModel, ids: Tensor) -> None:
    soft = Probe(torch.randn(4, 64, generator=torch.Generator().manual_seed(1)))
    plans = [Plan(Oracle(), 9), Plan(SnapKV(window=8), 9), Plan(Oracle(), 20), Plan(JudgeQ(), 9)]
    together = retain(lm, ids, plans, soft_tokens=soft, longest=SHORT).retained
    assert [kept.plan for kept in together] == plans
    for plan, kept in zip(plans, together, strict=True):
        (alone,) = retain(lm, ids, [plan], soft_tokens=soft, longest=SHORT).retained
        assert all(torch.equal(a, b) for a, b in zip(kept.kept, alone.kept, strict=True))
    assert [kept.extra_s > 0 for kept in together] == [True, False, True, False]


def test_the_second_look_is_at_the_answer_that_generate_gives(lm: LanguageModel, ids: Tensor) -> None:
    rows = prefill(lm, ids, [Plan(Full(), 60)]).retained[0].cache.frozen()
    plan = Plan(Oracle(), 9)
    (expected,) = probe(lm, rows, torch.tensor([written(lm, ids)]), [plan]).retained
    (found,) = retain(lm, ids, [plan], longest=SHORT).retained
    assert all(torch.equal(a, b) for a, b in zip(found.kept, expected.kept, strict=True))
