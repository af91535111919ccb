"""Hit rate: counted right, and 1 for whoever keeps what the oracle keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch

from judgeq.config import Allocation, Decoding, Selection
from judgeq.data.example import Example
from judgeq.errors import InputError, ModelError
from judgeq.evaluation.hit_rate import REFERENCE, HitRate, hit_rates
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan
from judgeq.inference.request import Request
from judgeq.methods import LAQ, Full, JudgeQ, Oracle, RandomRows, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.fixtures import TEXT
from tests.test_profile import profile


def examples(count: int = 6) -> list[Example]:
    return [Example.asking(f"Port {at}. {TEXT * 2}", "How tall is the lighthouse?", "test") for at in range(count)]


def test_random_rows_hit_as_often_as_chance_and_all_rows_always(lm: LanguageModel) -> None:
    random, everything = hit_rates(lm, examples(), [RandomRows()], [0.3, 1.0], tokens=None, response_tokens=8)
    assert random.mean == pytest.approx(0.3, abs=0.05)
    assert everything.mean == 1.0
    assert len(random.rates) == 6


def test_who_keeps_what_the_oracle_keeps_hits_always(lm: LanguageModel) -> None:
    same = Oracle(selection=Selection(pool=1))
    for rate in hit_rates(lm, examples(2), [same, Full()], [5, 0.1], tokens=None, response_tokens=8):
        assert rate.per_layer == (1.0,) * 4


def test_layers_that_never_evict_do_not_count(make_lm: Callable[..., LanguageModel]) -> None:
    lm = make_lm("gemma3_text")
    (random,) = hit_rates(lm, examples(), [RandomRows()], [0.3], tokens=None, response_tokens=8)
    assert len(random.per_layer) == len(lm.geometry.global_layers) == 2
    assert random.mean == pytest.approx(0.3, abs=0.05)
    with pytest.raises(ModelError, match="sees only the last 24 tokens"):
        hit_rates(make_lm("mistral", sliding_window=24), examples(), [RandomRows()], [0.3], tokens=None)


def test_layers_are_told_apart() -> None:
    rate = HitRate("judgeq", 64, ((0.0, 0.5, 1.0), (0.5, 0.5, 0.5)))
    assert rate.rates == (0.5, 0.5)
    assert rate.per_layer == (0.25, 0.5, 0.75)
    row = {
        "method": "judgeq",
        "budget": 64,
        "task": "hit-rate/wiki",
        "benchmark": "hit-rate/wiki",
        "metric": "hit_rate",
        "score": 0.5,
        "n": 2,
    }
    assert rate.to_row("wiki") == {**row, "per_layer": [0.25, 0.5, 0.75]}


def test_the_layers_of_a_run_average_to_its_score(lm: LanguageModel) -> None:
    tokens = SoftTokens.initialise(lm, torch.arange(40, 44))
    for rate in hit_rates(lm, examples(2), [JudgeQ(), SnapKV()], [40], tokens=tokens, response_tokens=8):
        assert len(rate.per_layer) == 4
        assert sum(rate.per_layer) / 4 == pytest.approx(rate.mean)
        assert len(set(rate.per_layer)) > 1


def test_a_budget_counts_only_for_prompts_that_exceed_it(lm: LanguageModel) -> None:
    short, *longer = [Example.asking("A quay.", "Where?", "test"), *examples(2)]
    length = short.input_ids(lm).shape[1]
    few, many = hit_rates(
        lm, [short, *longer], [SnapKV()], [length, length + 1, 10_000], tokens=None, response_tokens=8
    )
    assert (few.budget, len(few.rates)) == (length, 3)
    assert (many.budget, len(many.rates)) == (length + 1, 2)
    with pytest.raises(InputError, match="exceeds every prompt"):
        hit_rates(lm, [short], [SnapKV()], [10_000], tokens=None, response_tokens=8)


def test_names_are_those_given(lm: LanguageModel) -> None:
    found = hit_rates(
        lm, examples(1), [SnapKV(window=4)], [9], tokens=None, names=["snapkv:window=4"], response_tokens=4
    )
    assert [rate.method for rate in found] == ["snapkv:window=4"]


@pytest.mark.parametrize("allocation", get_args(Allocation))
def test_allocations_are_measured_against_the_even_oracle(lm: LanguageModel, allocation: Allocation) -> None:
    plain = SoftTokens.initialise(lm, torch.arange(40, 44))
    tokens = replace(plain, profile=profile(8, 64))
    method = SnapKV(selection=Selection(recent=2, allocation=allocation))
    (rate,) = hit_rates(lm, examples(1), [method], [12], tokens=tokens, response_tokens=8)
    ids = examples(1)[0].input_ids(lm, reserve=8)
    plans = [Plan(REFERENCE, 12), Plan(method, 12, tokens.profile)]
    request = Request(lm, ids, plans, Decoding(max_new_tokens=8))
    best, ours = prefill_with_lookahead(request).retained
    for layer, found in enumerate(rate.per_layer):
        shares = []
        for head in range(2):
            rows = ours.kept[layer][head] if method.selection.allocation != "uniform" else None
            kept = set((ours.kept[layer][0, head] if rows is None else rows).tolist())
            shares.append(len(kept & set(best.kept[layer][0, head].tolist())) / 12)
        assert found == pytest.approx(sum(shares) / 2)


def test_pooling_and_a_draft_are_methods_like_others(lm: LanguageModel) -> None:
    methods = [SnapKV(), SnapKV(selection=Selection(recent=32, pool=1)), LAQ()]
    rates = hit_rates(lm, examples(2), methods, [40], tokens=None, response_tokens=8)
    assert len({rate.mean for rate in rates}) == 3
    assert all(0 < rate.mean < 1 for rate in rates)
