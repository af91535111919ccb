"""Methods of other papers, each against its definition written out over transformers' own attention."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from judgeq import ask
from judgeq.attention.call import AttentionCall
from judgeq.config import Decoding, Selection
from judgeq.errors import InputError, ModelError
from judgeq.inference.decode import decode
from judgeq.inference.decode_eviction import DecodingEviction
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import TOVA, ChunkKV, DefensiveKV, ExpectedAttention, RandomRows
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from tests.test_prefill import attention_of
from tests.test_rope import dynamic, longrope, scaled

TOKENS, SHORT = 90, Decoding(max_new_tokens=4)


def grouped(lm: LanguageModel, ids: Tensor) -> dict[int, Tensor]:
    """For each layer that evicts the attention (1, H_kv, G, Q, K) of one pass over the prompt."""
    paid = attention_of(lm, lm.model.get_input_embeddings()(ids))
    return {
        layer: paid[layer].reshape(1, 2, 2, ids.shape[1], ids.shape[1]) for layer in lm.geometry.global_layers
    }


def test_defensivekv_takes_the_largest_and_no_less_than_the_mean(each_lm: LanguageModel, ids: Tensor) -> None:
    method = DefensiveKV(window=16)
    heads = method_from_text("defensivekv:window=16:allocation=adakv")
    even, split = prefill(each_lm, ids, [Plan(method, 40), Plan(heads, 40)]).retained
    for layer, paid in grouped(each_lm, ids).items():
        largest = paid[..., -16:, :].amax((2, 3))
        expected = largest.maximum(largest[..., :-32].mean(-1, keepdim=True))
        assert torch.allclose(even.scores[layer], expected, atol=1e-5)
        assert torch.equal(even.scores[layer], split.scores[layer])
        assert sum(map(len, split.kept[layer])) == 2 * 40
        assert all(set(range(58, 90)) <= set(rows.tolist()) for rows in split.kept[layer])


@pytest.mark.parametrize("chunk", [1, 7, 10, 200])
def test_chunkkv_keeps_whole_chunks(some_lm: LanguageModel, ids: Tensor, chunk: int) -> None:
    method = ChunkKV(window=16, chunk=chunk)
    kept = prefill(some_lm, ids, [Plan(method, 32 + 3 * 10)]).retained[0]
    for layer, paid in grouped(some_lm, ids).items():
        by_row = paid[..., -16:, :].mean((1, 2, 3))  # (1, T)
        chunks = by_row.split(chunk, -1)
        expected = torch.cat([part.mean(-1, keepdim=True).expand_as(part) for part in chunks], -1)
        assert torch.allclose(kept.scores[layer][0], expected.expand(2, -1), atol=1e-5)
        assert torch.equal(*kept.kept[layer][0])
        best = kept.scores[layer][0, 0, :-32].argsort(descending=True, stable=True)[:30].sort().values
        assert torch.equal(kept.kept[layer][0, 0], torch.cat([best, torch.arange(58, TOKENS)]))


def test_tova_keeps_the_same_rows_in_all_heads_by_the_last_token(
    some_lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(some_lm.__dict__, "eos_ids", frozenset())
    outcome = prefill(some_lm, ids, [Plan(TOVA(), 40)])
    for layer, paid in grouped(some_lm, ids).items():
        expected = paid[..., -1, :].mean((1, 2)).expand(2, -1)
        assert torch.allclose(outcome.retained[0].scores[layer][0], expected, atol=1e-5)
        assert torch.equal(*outcome.retained[0].kept[layer][0])
    outcome = prefill(some_lm, ids, [Plan(TOVA(), TOKENS)])
    eviction = DecodingEviction(some_lm, outcome.retained[0], TOKENS + 2, 6)
    steps = decode(some_lm, eviction.cache, outcome.logits, Decoding(20), eviction.next_logits)
    written = [
        step.token for step in islice(steps, 7)
    ]  # the sixth token is read, and more rows than the budget stored
    eviction.evict()
    assert eviction.rounds == 1
    read = torch.cat([ids, torch.tensor([written[:6]])], 1)
    for layer, paid in grouped(some_lm, read).items():
        weights = paid[0, ..., -1, :].mean((0, 1))
        weights[-1] = 2  # the recent window
        expected = weights.topk(TOKENS + 2).indices.sort().values
        assert all(torch.equal(head, expected) for head in eviction.stored_tokens()[layer])


def expected_scores(
    lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch, method: ExpectedAttention
) -> dict[int, Tensor]:
    """The paper's formulas with the queries before RoPE: for each layer that evicts (1, H_kv, T), without the sinks."""
    decoder, cache = lm.model.get_decoder(), DynamicCache(config=lm.model.config)
    modeling, before, found = sys.modules[type(decoder).__module__], [], {}
    calls: list[AttentionCall] = []
    apply, sinks = modeling.apply_rotary_pos_emb, method.selection.sinks
    with monkeypatch.context() as patch:
        noting = lambda q, *rest: before.append(q) or apply(q, *rest)  # noqa: E731
        patch.setattr(modeling, "apply_rotary_pos_emb", noting)
        lm.model(ids, cache=cache, observer=SimpleNamespace(observe=calls.append))
    later = torch.arange(ids.shape[1], ids.shape[1] + method.future)[None]
    asked = iter(before)
    for layer, module in enumerate(decoder.layers):
        matrix = torch.eye(16)[None, :, None].expand(-1, -1, method.future, -1)  # (1, D, future, D)
        queries = calls[layer].queries
        if getattr(module.self_attn, "use_rope", True):
            kind = (
                (decoder.config.layer_types[layer],) if isinstance(decoder.rotary_emb.rope_type, dict) else ()
            )
            queries = next(asked)
            matrix, _ = apply(matrix, matrix, *decoder.rotary_emb(queries, later, *kind))
        if layer not in lm.geometry.global_layers:
            continue
        average = matrix.mean(2)[0]  # a unit vector's average rotation in each line
        queries = queries[:, :, sinks:][:, :, -(method.queries or TOKENS) :]
        mean = queries.mean(2, keepdim=True)
        centred = queries - mean
        covariance = average.T @ (centred.mT @ centred / queries.shape[2]) @ average
        keys, values = (
            rows[:, :, sinks:].repeat_interleave(2, 1)
            for rows in (cache.layers[layer].keys, cache.layers[layer].values)
        )
        scaled_keys = keys * calls[layer].scaling
        logits = torch.einsum("bhqd,bhtd->bht", mean @ average, scaled_keys)
        logits += torch.einsum("bhti,bhij,bhtj->bht", scaled_keys, covariance, scaled_keys) / 2
        weights = logits.softmax(-1).reshape(1, 2, 2, -1).mean(2)
        found[layer] = (weights + method.epsilon) * values[:, ::2].norm(dim=-1)
    return found


@pytest.mark.parametrize(
    "method",
    [
        ExpectedAttention(),
        ExpectedAttention(queries=20, future=1, epsilon=0.01, selection=Selection(sinks=0, pool=1)),
    ],
    ids=["all", "few"],
)
def test_expected_attention_foresees_queries_like_the_prompts(
    each_lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch, method: ExpectedAttention
) -> None:
    retained = prefill(each_lm, ids, [Plan(method, 40)]).retained[0]
    chunked = prefill(each_lm, ids, [Plan(method, 40)], chunk=16).retained[0]
    sinks = method.selection.sinks
    for layer, expected in expected_scores(each_lm, ids, monkeypatch, method).items():
        for scores in (retained.scores[layer], chunked.scores[layer]):
            assert torch.allclose(scores[..., sinks:], expected, rtol=1e-3, atol=1e-6)
            assert bool((scores[..., :sinks] == scores.amax(-1, keepdim=True)).all())


@pytest.mark.parametrize("kind", ["linear", "llama3", "yarn"])
def test_expected_attention_follows_stretched_positions(
    make_lm: Callable[..., LanguageModel], ids: Tensor, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lm, method = scaled(make_lm, kind), ExpectedAttention()
    scores = prefill(lm, ids, [Plan(method, 40)]).retained[0].scores
    for layer, expected in expected_scores(lm, ids, monkeypatch, method).items():
        assert torch.allclose(scores[layer][..., 4:], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("make", [dynamic, longrope])
def test_expected_attention_is_refused_where_later_positions_change_the_rotation(
    make_lm: Callable[..., LanguageModel], make: Callable[..., LanguageModel]
) -> None:
    with pytest.raises(
        ModelError, match="cannot be foreseen: choose another method, such as judgeq or snapkv"
    ):
        prefill(make(make_lm), torch.randint(3, 300, (1, 40)), [Plan(ExpectedAttention(), 12)])


@pytest.mark.parametrize("tokens", [1, 3, 4, 5])
def test_expected_attention_takes_short_prompts(lm: LanguageModel, ids: Tensor, tokens: int) -> None:
    retained = prefill(lm, ids[:, :tokens], [Plan(ExpectedAttention(), max(1, tokens - 1))]).retained[0]
    assert all(bool(scores.isfinite().all()) for scores in retained.scores)


@pytest.mark.parametrize("option", ["queries=0", "future=0", "epsilon=-1", "epsilon=nan"])
def test_what_expected_attention_cannot_take_is_named(option: str) -> None:
    with pytest.raises(InputError, match=rf"ExpectedAttention\.{option.partition('=')[0]} is "):
        method_from_text(f"expectedattention:{option}")


@pytest.mark.parametrize("method", ["tova", "random:protect=true"])
def test_methods_for_decoding_say_so_where_only_a_prompt_is_evicted(lm: LanguageModel, method: str) -> None:
    options = {"method": method_from_text(method), "budget": 24}
    (notice,) = ask(lm, "A quay. " * 20, "Where?", decoding=SHORT, **options).notices
    assert notice.endswith("give evict_every, or choose another method, such as snapkv.")
    bounded = Decoding(max_new_tokens=4, evict_every=2)
    assert ask(lm, "A quay. " * 20, "Where?", decoding=bounded, **options).notices == ()


def test_random_rows_leave_a_protected_prompt_alone(
    lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lm.__dict__, "eos_ids", frozenset())
    outcome = prefill(lm, ids, [Plan(RandomRows(protect=True), TOKENS)])
    eviction = DecodingEviction(lm, outcome.retained[0], 2 * TOKENS, 10)
    written = list(decode(lm, eviction.cache, outcome.logits, Decoding(160), eviction.next_logits))
    assert len(written) == 160
    assert eviction.rounds > 4
    heads = [head for layer in eviction.stored_tokens() for head in layer]
    assert all(head[:TOKENS].tolist() == list(range(TOKENS)) for head in heads)
    answers = {tuple(head[TOKENS:].tolist()) for head in heads}
    assert len(answers) == len(heads)  # each draws its own
    assert all(rows[-1] - rows[0] > len(rows) for rows in answers)  # and not the latest alone
