"""Scaled position embeddings: what stays exact after eviction, and what no cache can keep exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from judgeq.cache.prefix import PrefixCache, Progress
from judgeq.documents.document import Document
from judgeq.errors import InputError
from judgeq.inference.api import ask
from judgeq.inference.lookahead import prefill_many
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.inference.request import Request
from judgeq.methods import Full, JudgeQ, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import MakeLM
from tests.masked_reference import REFERENCE, attention, gone_rows
from tests.test_prefill import answer, full_answer

TOKENS = 90
SHORT = 64
"""Positions that the model knew before they were stretched, fewer than the prompt has."""
STRETCHED: dict[str, dict[str, Any]] = {
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": SHORT,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": SHORT},
}


def scaled(make_lm: MakeLM, kind: str, **changes: Any) -> LanguageModel:
    rope = {"rope_type": kind, "rope_theta": 10_000.0, **STRETCHED.get(kind, {"factor": 4.0})}
    return make_lm(rope_parameters=rope, **changes)


def dynamic(make_lm: MakeLM) -> LanguageModel:
    """A new one each time: transformers' own embedding remembers the longest text that it has seen."""
    return scaled(make_lm, "dynamic", max_position_embeddings=SHORT)


@pytest.fixture
def soft(soft_with_offsets: SoftTokenTensors) -> SoftTokenTensors:
    return soft_with_offsets


def follows_the_reference(lm: LanguageModel, ids: Tensor, plan: Plan, soft: SoftTokenTensors | None) -> bool:
    """Whether decoding from kept rows equals masked attention over a full cache of plain transformers.

    Token by token in turn, since the position embedding may remember how far either has got.
    """
    retained = prefill(lm, ids, [plan], soft_tokens=soft).retained[0]
    cache, gone = DynamicCache(config=lm.model.config), gone_rows(retained, ids.shape[1])
    with attention(lm, REFERENCE):
        lm.model(ids, cache=cache, gone=None)
    off = []
    for token in torch.randint(3, 300, (5, 1, 1), generator=torch.Generator().manual_seed(7)):
        with attention(lm, REFERENCE):
            expected = lm.model(token, cache=cache, gone=gone).logits
        off.append((lm.model(token, cache=retained.cache).logits - expected).abs().max())
    return max(off) < 1e-4


@pytest.mark.parametrize("kind", sorted(STRETCHED))
def test_stretched_positions_are_exact(make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors, kind: str) -> None:
    lm = scaled(make_lm, kind)
    outcome = prefill(lm, ids, [Plan(Full(), TOKENS), Plan(JudgeQ(), TOKENS)], soft_tokens=soft)
    expected = full_answer(lm, ids, 12)
    assert expected != full_answer(make_lm(), ids, 12), "the scaling would not matter"
    assert [answer(lm, outcome, at, 12) for at in range(2)] == [expected, expected]
    assert follows_the_reference(lm, ids, Plan(JudgeQ(), 20), soft)


def test_dynamic_positions_are_exact_as_long_as_the_model_knows_them(
    make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors
) -> None:
    lm, short = dynamic(make_lm), ids[:, : SHORT - 12]
    outcome = prefill(lm, short, [Plan(JudgeQ(), SHORT)], soft_tokens=soft)
    assert answer(lm, outcome, 0, 12) == full_answer(lm, short, 12)
    assert follows_the_reference(lm, short, Plan(JudgeQ(), 20), soft)


def test_beyond_that_methods_without_soft_tokens_do_what_transformers_does(make_lm: MakeLM, ids: Tensor) -> None:
    """Rows stay turned by the length of the pass that made them, in a cache of transformers as in ours."""
    outcome = prefill(lm := dynamic(make_lm), ids, [Plan(SnapKV(), TOKENS)])
    assert answer(lm, outcome, 0, 12) == full_answer(dynamic(make_lm), ids, 12)
    assert follows_the_reference(dynamic(make_lm), ids, Plan(SnapKV(), 40), None)


@pytest.mark.parametrize("tokens", [SHORT - 4, TOKENS])
def test_beyond_that_soft_tokens_would_turn_the_prompt_and_are_refused(
    make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors, tokens: int
) -> None:
    with pytest.raises(InputError, match=rf"dynamic.*{SHORT} positions.*{tokens} tokens\) plus 5"):
        prefill(dynamic(make_lm), ids[:, :tokens], [Plan(JudgeQ(), 8)], soft_tokens=soft)


def longrope(make_lm: MakeLM, known: int = SHORT) -> LanguageModel:
    """Phi-3's: other factors for every position once a text is longer than the `known` ones."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "short_factor": [1.0] * 8,
        "long_factor": [4.0] * 8,
        "original_max_position_embeddings": known,
    }
    return make_lm("phi3", rope_parameters=rope, original_max_position_embeddings=known)


@pytest.mark.parametrize("tokens", [SHORT - 12, TOKENS])
def test_long_factors_are_exact_on_either_side(
    make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors, tokens: int
) -> None:
    lm, ids = longrope(make_lm), ids[:, :tokens]
    outcome = prefill(lm, ids, [Plan(JudgeQ(), TOKENS)], soft_tokens=soft)
    assert answer(lm, outcome, 0, 12) == full_answer(lm, ids, 12)
    assert follows_the_reference(lm, ids, Plan(JudgeQ(), 20), soft)


def test_soft_tokens_that_would_change_the_factors_of_the_prompt_are_refused(
    make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors
) -> None:
    lm = longrope(make_lm)
    prefill(lm, ids[:, : SHORT - 5], [Plan(JudgeQ(), 8)], soft_tokens=soft)
    with pytest.raises(InputError, match=rf"longrope.*{SHORT} positions"):
        prefill(lm, ids[:, : SHORT - 4], [Plan(JudgeQ(), 8)], soft_tokens=soft)


@pytest.mark.parametrize(("make", "known"), [(longrope, "longrope.*64"), (dynamic, "dynamic.*64")])
def test_chunks_that_would_be_turned_otherwise_than_one_pass_are_refused(
    make_lm: MakeLM, ids: Tensor, make: Callable[..., LanguageModel], known: str
) -> None:
    plans = [Plan(Full(), TOKENS)]
    with pytest.raises(InputError, match=f"{known}.*{TOKENS} tokens.*without chunks"):
        prefill(make(make_lm), ids, plans, chunk=40)
    short, lm = ids[:, :SHORT], make(make_lm)
    found, whole = prefill(lm, short, plans, chunk=40), prefill(lm, short, plans)
    assert torch.allclose(found.logits, whole.logits, atol=1e-3)


def test_chunks_behind_the_short_factors_are_read(make_lm: MakeLM, ids: Tensor) -> None:
    lm, ids, plans = longrope(make_lm), ids.repeat(1, 2), [Plan(Full(), 2 * TOKENS)]
    found, whole = prefill(lm, ids, plans, chunk=SHORT + 6), prefill(lm, ids, plans)
    assert torch.allclose(found.logits, whole.logits, atol=1e-3)


@pytest.mark.parametrize("make", [longrope, dynamic])
@pytest.mark.parametrize(("held", "tokens"), [(40, 60), (40, TOKENS), (70, TOKENS), (70, 60)])
def test_rows_that_were_read_before_are_used_where_one_pass_would_turn_them_the_same_way(
    make_lm: MakeLM, ids: Tensor, make: Callable[..., LanguageModel], held: int, tokens: int
) -> None:
    lm, plans = make(make_lm), [Plan(Full(), TOKENS)]
    rows = PrefixCache(lm.model.config)
    rows.read(lm, [ids[:, :held]], Progress(None, 0))
    found, whole = (
        prefill(lm, ids[:, :tokens], plans, prefix=rows),
        prefill(make(make_lm), ids[:, :tokens], plans),
    )
    assert torch.allclose(found.logits, whole.logits, atol=1e-3)


def test_a_document_is_not_read_in_chunks_that_are_turned_apart(make_lm: MakeLM) -> None:
    lm, text = longrope(make_lm), "The harbour lies in the north. " * 12
    with pytest.raises(InputError, match="without chunks"):
        Document(lm, text, chunk=20).read()
    question, options = "Where is it?", {"method": "snapkv", "budget": 40}
    assert Document(lm, text).ask(question, **options).text == ask(lm, text, question, **options).text


@pytest.mark.parametrize("make", [longrope, dynamic])
def test_prompts_that_are_turned_apart_do_not_share_a_pass(
    make_lm: MakeLM, ids: Tensor, make: Callable[..., LanguageModel]
) -> None:
    lengths = (SHORT - 2, SHORT + 6)
    lm = make(make_lm)
    prompts = [Request(lm, ids[:, :length], [Plan(SnapKV(), 20)]) for length in lengths]
    found = prefill_many(prompts, padded=True)
    for outcome, prompt in zip(found, prompts, strict=True):
        alone = prefill(make(make_lm), prompt.input_ids, prompt.plans)
        assert torch.allclose(outcome.logits, alone.logits, atol=1e-3)
