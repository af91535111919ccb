"""Methods of other papers, each against its definition written out over transformers' own attention."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from judgeq import Document, ask, ask_many, sweep
from judgeq.attention.call import AttentionCall
from judgeq.config import Decoding, Selection
from judgeq.documents.compressed import CompressedDocument
from judgeq.errors import InputError, ModelError
from judgeq.inference import replay
from judgeq.inference.decode import decode
from judgeq.inference.decode_eviction import DecodingEviction
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill, second_pass
from judgeq.inference.request import Request
from judgeq.methods import (
    METHODS,
    TOVA,
    ChunkKV,
    DefensiveKV,
    ExpectedAttention,
    KVzip,
    KVzipPlus,
    RandomRows,
    kvzip,
)
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from tests.fixtures import TEXT, MakeLM
from tests.rounding import moved_rows
from tests.test_prefill import attention_of
from tests.test_rope import dynamic, longrope, scaled

TOKENS, SHORT = 90, Decoding(max_new_tokens=4)


def grouped(lm: LanguageModel, ids: Tensor) -> dict[int, Tensor]:
    """For each layer that evicts the attention (1, H_kv, G, Q, K) of one pass over the prompt."""
    paid = attention_of(lm, lm.model.get_input_embeddings()(ids))
    return {layer: paid[layer].reshape(1, 2, 2, ids.shape[1], ids.shape[1]) for layer in lm.geometry.global_layers}


def test_defensivekv_takes_the_largest_and_no_less_than_the_mean(some_lm: LanguageModel, ids: Tensor) -> None:
    method = DefensiveKV(window=16)
    heads = method_from_text("defensivekv:window=16:allocation=adakv")
    even, split = prefill(some_lm, ids, [Plan(method, 40), Plan(heads, 40)]).retained
    for layer, paid in grouped(some_lm, ids).items():
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
    # the sixth token is read, and more rows than the budget stored
    written = [step.token for step in islice(steps, 7)]
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
            kind = (decoder.config.layer_types[layer],) if isinstance(decoder.rotary_emb.rope_type, dict) else ()
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
    make_lm: MakeLM, ids: Tensor, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    lm, method = scaled(make_lm, kind), ExpectedAttention()
    scores = prefill(lm, ids, [Plan(method, 40)]).retained[0].scores
    for layer, expected in expected_scores(lm, ids, monkeypatch, method).items():
        assert torch.allclose(scores[layer][..., 4:], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("make", [dynamic, longrope])
def test_expected_attention_is_refused_where_later_positions_change_the_rotation(
    make_lm: MakeLM, make: Callable[..., LanguageModel]
) -> None:
    with pytest.raises(ModelError, match="cannot be foreseen: choose another method, such as judgeq or snapkv"):
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


def replay_scores(lm: LanguageModel, method: KVzip, parts: list[tuple[tuple[int, int], Tensor]], ids: Tensor) -> dict:
    """The definition from one pass over document and replay each: for each layer that evicts (1, H_kv, T)."""
    found = {layer: torch.zeros(1, 2, ids.shape[1]) for layer in lm.geometry.global_layers}
    for (first, end), response in parts:
        calls: list[AttentionCall] = []
        whole = torch.cat([ids, response], 1)
        states = lm.model(whole, observer=SimpleNamespace(observe=calls.append), output_hidden_states=True)
        tokens, replay = ids.shape[1], response.shape[1]
        seen = [
            *range(min(method.selection.sinks, first)),
            *range(first, end),
            *range(tokens, tokens + replay),
        ]
        for layer, scores in found.items():
            call, module = calls[layer], lm.model.get_decoder().layers[layer]
            keys, values = (rows[:, :, seen].repeat_interleave(2, 1) for rows in (call.keys, call.values))
            logits = call.queries[:, :, tokens:] @ keys.mT * call.scaling
            if call.softcap:
                logits = (logits / call.softcap).tanh() * call.softcap
            causal = torch.ones(replay, replay, dtype=torch.bool).triu(1)
            logits[..., -replay:] = logits[..., -replay:].masked_fill(causal, -torch.inf)
            paid = logits.softmax(-1)
            if method.weighs:
                norm = getattr(module, "input_layernorm", torch.nn.Identity())
                read = norm(states.hidden_states[layer])[0, tokens:].norm(dim=-1)
                by_head = module.self_attn.o_proj.weight.reshape(64, 4, 16)
                added = torch.einsum("ehd,bhtd->bhte", by_head, values).norm(dim=-1)
                paid = paid / read[:, None] * added[:, :, None]
            part = slice(len(seen) - replay - (end - first), len(seen) - replay)
            scores[..., first:end] = paid[..., part].amax(2).reshape(1, 2, 2, -1).amax(2)
    return found


@pytest.mark.parametrize(("kind", "chunk"), [(KVzip, 2048), (KVzipPlus, 30)])
def test_kvzip_keeps_what_a_replay_attends_to(
    some_lm: LanguageModel, kind: type[KVzip], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvzip, "QUERY_BLOCK", 16)  # the last block is shorter
    lm, method = some_lm, kind(chunk=chunk)
    document = Document(lm, TEXT, chunk=50)
    compressed = document.compress(method=method, budget=20)
    parts = list(replay._replays(lm, document.prefix, chunk))
    said = [lm.tokenizer.decode(response[0]) for _, response in parts]
    assert "Repeat the previous context exactly.<|end|>\n<|start|>assistant\n" in said[0]
    assert said[0].endswith(TEXT.strip()) or chunk == 30
    assert all("starting with" in text for text in said[1:])
    assert [end for (_, end), _ in parts[:-1]] == [first for (first, _), _ in parts[1:]]
    assert parts[-1][0][1] == document.tokens
    expected = replay_scores(lm, method, parts, document.prefix.input_ids)
    head = parts[0][0][0]
    for layer, scores in expected.items():
        assert torch.allclose(compressed.retained.scores[layer], scores, rtol=1e-3, atol=1e-5)
        assert not compressed.retained.scores[layer][..., :head].any()
        kept = compressed.retained.kept[layer]
        assert sum(map(len, kept)) == 2 * 20
        assert all(rows[:4].tolist() == [0, 1, 2, 3] for rows in kept)
    assert not any(layer.self_attn._forward_pre_hooks for layer in lm.model.get_decoder().layers)


@pytest.mark.parametrize("name", ["kvzip", "kvzip+"])
def test_a_replayed_document_answers_saves_and_frees(lm: LanguageModel, tmp_path: Path, name: str) -> None:
    fresh = Document(lm, TEXT).compress(method=name, budget=20)
    read = Document(lm, TEXT).read()
    held = read.compress(method=name, budget=20)
    moved_rows(fresh.retained.kept, held.retained.kept, fresh.retained.scores)
    assert fresh.full_kv_bytes == Document(lm, TEXT).compress(method="full").full_kv_bytes
    assert fresh.kv_bytes < fresh.full_kv_bytes
    answer = fresh.ask("Where is it?", decoding=SHORT)
    assert answer.method == name
    loaded = CompressedDocument.load(lm, fresh.save(tmp_path / "kept"))
    assert loaded.ask("Where is it?", decoding=SHORT).text == answer.text
    even = read.compress(method=method_from_text(f"{name}:allocation=uniform:sinks=0"), budget=20, row_bits=8)
    assert {rows.shape[-1] for layer in even.retained.kept for rows in layer} == {20}


@pytest.mark.parametrize("name", ["kvzip", "kvzip+"])
def test_a_replay_is_refused_where_the_question_is_known(lm: LanguageModel, ids: Tensor, name: str) -> None:
    method = METHODS[name]()
    known = {"method": name, "budget": 20}
    for refused in (
        lambda: ask(lm, TEXT, "Where?", **known),
        lambda: ask_many(lm, [(TEXT, "Where?")], **known),
        lambda: Document(lm, TEXT).ask("Where?", **known),
        lambda: list(sweep(lm, TEXT, "Where?", methods=[name], budgets=20)),
        lambda: prefill(lm, ids, [Plan(method, 20)]),
        lambda: prefill_with_lookahead(Request(lm, ids, [Plan(method, 20)])),
    ):
        with pytest.raises(InputError, match=r"before any question is known: use Document\.compress\(method="):
            refused()
    rows = prefill(lm, ids, [Plan(METHODS["full"](), TOKENS)]).retained[0].cache.frozen()
    with pytest.raises(InputError, match=r"scores a replay: evict with Document\.compress"):
        second_pass(lm, ids, rows, ids[:, :5], [Plan(method, 20)])
    for option, said in (("chunk=0", r"\.chunk is 0"), ("memory=4", "memory is 4 and does nothing")):
        with pytest.raises(InputError, match=said):
            method_from_text(f"{name}:{option}")


def test_document_and_replay_must_fit_the_positions(make_lm: MakeLM) -> None:
    document = Document(make_lm(max_position_embeddings=200), TEXT)
    with pytest.raises(InputError, match="replay fewer tokens at once, as with kvzip:chunk=512"):
        document.compress(method="kvzip", budget=20)
    document.compress(method=KVzip(chunk=10), budget=20)


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
