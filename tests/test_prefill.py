"""One pass, all plans: exact attention, exact scores, rows gone layer by layer, nothing left on the model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import DynamicCache

from judgeq.attention.call import AttentionCall
from judgeq.config import Allocation, Decoding, Selection
from judgeq.errors import InputError
from judgeq.inference.decode import decode
from judgeq.inference.plan import Plan, Retained
from judgeq.inference.prefill import Prefill, prefill, second_pass
from judgeq.methods import METHODS, Full, JudgeQ, Oracle, RandomRows, SnapKV, StreamingLLM
from judgeq.methods.parsing import method_from_text
from judgeq.methods.scoring import merge_group
from judgeq.methods.selection import Forced
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.tensors import MemoryTokens, SoftTokenTensors
from tests.fixtures import WINDOW, MakeLM, written
from tests.masked_reference import REFERENCE, attention, gone_rows
from tests.rounding import moved_rows
from tests.test_many import soft_tokens
from tests.test_profile import profile

TOKENS = 90
EXACT = Selection(pool=1)


def full_answer(lm: LanguageModel, ids: Tensor, length: int) -> list[int]:
    written = lm.model.generate(ids, max_new_tokens=length, do_sample=False, eos_token_id=None)
    return written[0, ids.shape[1] :].tolist()


def answer(lm: LanguageModel, outcome: Prefill, at: int, length: int) -> list[int]:
    return written(lm, outcome.retained[at].cache, outcome.logits, length)


def test_at_full_budget_the_answer_is_that_of_generate(
    each_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    some = ("full", "judgeq", "h2o", "streamingllm") if each_lm.name != "tiny-llama" else METHODS
    methods = [METHODS[name]() for name in some]
    methods = [method for method in methods if not (method.needs_response or method.replays)]
    outcome = prefill(each_lm, ids, [Plan(method, TOKENS) for method in methods], soft_tokens=soft)
    expected = full_answer(each_lm, ids, 12)
    assert len(set(expected)) > 2, "a constant answer would hide wrong positions"
    for at in range(len(methods)):
        assert answer(each_lm, outcome, at, 12) == expected


def test_soft_tokens_leave_no_row_and_the_prompts_logits_alone_and_rows_go_layer_by_layer(
    each_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    outcome = prefill(each_lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=soft)
    assert torch.allclose(outcome.logits, each_lm.model(ids).logits[:, -1], atol=1e-4)
    kept = sum(WINDOW - 1 if layer in each_lm.geometry.sliding else 8 for layer in range(4))
    assert outcome.peak_rows <= kept + TOKENS + 5 < 4 * TOKENS
    outcome = prefill(each_lm, ids, [Plan(Full(), TOKENS), Plan(JudgeQ(), 8)], soft_tokens=soft)
    for retained, rows in zip(outcome.retained, (TOKENS, 8), strict=True):
        for at, layer in enumerate(retained.cache.layers):
            held = WINDOW - 1 if at in each_lm.geometry.sliding else rows
            assert (layer.keys.shape[2], layer.get_seq_length()) == (held, TOKENS)


def attention_of(lm: LanguageModel, embeds: Tensor) -> tuple[Tensor, ...]:
    """What transformers' own eager attention pays, for each layer (1, H, Q, K)."""
    with attention(lm, "eager"):
        return lm.model(inputs_embeds=embeds, output_attentions=True).attentions


def test_scores_are_the_attention_that_transformers_itself_computes(
    each_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    embeds = each_lm.model.get_input_embeddings()(ids)
    plans = [Plan(JudgeQ(), 8), Plan(SnapKV(window=16), 8)]
    outcome = prefill(each_lm, ids, plans, soft_tokens=soft)
    paid = attention_of(each_lm, torch.cat([embeds, soft.embeddings[None]], 1))
    for layer in each_lm.geometry.global_layers:
        by_group = paid[layer].reshape(1, 2, 2, TOKENS + 5, TOKENS + 5)
        asked = by_group[..., TOKENS:, :TOKENS].mean((2, 3))
        window = by_group[..., TOKENS - 16 : TOKENS, :TOKENS].mean((2, 3))
        for retained, expected in zip(outcome.retained, (asked, window), strict=True):
            assert torch.allclose(retained.scores[layer], expected, atol=1e-5)


def test_the_oracle_scores_by_the_attention_of_the_response(
    each_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    response = torch.tensor([full_answer(each_lm, ids, 6)])
    rows = prefill(each_lm, ids, [Plan(Full(), TOKENS)]).retained[0].cache.frozen()
    outcome = second_pass(each_lm, ids, rows, response, [Plan(Oracle(selection=EXACT), 9)])
    embeds = each_lm.model.get_input_embeddings()(torch.cat([ids, response], 1))
    paid = attention_of(each_lm, embeds)
    for layer in each_lm.geometry.global_layers:
        grouped = paid[layer][..., TOKENS:, :TOKENS].mean(2).reshape(1, 2, 2, TOKENS)
        expected = merge_group(grouped)
        assert torch.allclose(outcome.retained[0].scores[layer], expected, atol=1e-5)
        moved_rows([outcome.retained[0].kept[layer]], [expected.topk(9, -1).indices])


def test_kept_rows_are_the_rows_of_the_full_cache(each_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    cache = DynamicCache(config=each_lm.model.config)
    each_lm.model(ids, cache=cache)
    retained = prefill(each_lm, ids, [Plan(JudgeQ(selection=EXACT), 8)], soft_tokens=soft).retained[0]
    for layer in each_lm.geometry.global_layers:
        kept = retained.kept[layer]
        assert torch.equal(kept, retained.scores[layer].topk(8, -1).indices.sort(-1).values)
        for head in range(2):
            mine, theirs = retained.cache.layers[layer], cache.layers[layer]
            assert torch.allclose(mine.keys[0, head], theirs.keys[0, head, kept[0, head]], atol=1e-4)
            assert torch.allclose(mine.values[0, head], theirs.values[0, head, kept[0, head]], atol=1e-4)


def test_freed_rows_are_freed(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    full, few = prefill(lm, ids, [Plan(Full(), TOKENS), Plan(JudgeQ(), 9)], soft_tokens=soft).retained
    row = 2 * 2 * 16 * 4  # key and value, two heads, 16 numbers, 4 bytes
    assert full.cache.kv_bytes == 4 * TOKENS * row
    assert few.cache.kv_bytes == 4 * 9 * row


def test_positions_stay_right_after_eviction(each_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    """Decoding from kept rows equals attention that is masked to the same rows in a full cache."""
    retained = prefill(each_lm, ids, [Plan(JudgeQ(), 30)], soft_tokens=soft).retained[0]
    new = torch.randint(3, 300, (1, 7), generator=torch.Generator().manual_seed(7))
    cache, gone = DynamicCache(config=each_lm.model.config), gone_rows(retained, TOKENS)
    with attention(each_lm, REFERENCE):
        each_lm.model(ids, cache=cache, gone=None)
        expected = [each_lm.model(token, cache=cache, gone=gone).logits for token in new.split(1, 1)]
    for token, logits in zip(new.split(1, 1), expected, strict=True):
        assert torch.allclose(each_lm.model(token, cache=retained.cache).logits, logits, atol=1e-3)


@pytest.mark.parametrize("stored", [{}, {"allocation": "adakv"}, {"bits": 4}], ids=["even", "ragged", "few bits"])
def test_plain_generate_continues_as_decode_does(
    some_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors, stored: dict[str, Any]
) -> None:
    outcome = prefill(some_lm, ids, [Plan(JudgeQ(selection=Selection(**stored)), 20)], soft_tokens=soft)
    fork = outcome.retained[0].cache.fork()
    expected = answer(some_lm, outcome, 0, 7)
    prompt = torch.cat([ids, torch.tensor([expected[:1]])], 1)
    found = some_lm.model.generate(prompt, cache=fork, max_new_tokens=6, do_sample=False, eos_token_id=None)
    assert found[0, TOKENS:].tolist() == expected


def test_a_fork_is_not_changed_by_the_other_continuation(lm: LanguageModel, ids: Tensor) -> None:
    outcome = prefill(lm, ids, [Plan(Full(), TOKENS)])
    fork = outcome.retained[0].cache.fork()
    answer(lm, outcome, 0, 4)
    assert fork.get_seq_length() == TOKENS
    assert outcome.retained[0].cache.get_seq_length() == TOKENS + 3


def test_nothing_is_left_on_the_model(make_lm: MakeLM, ids: Tensor, soft: SoftTokenTensors) -> None:
    lm = make_lm()

    def state() -> list[object]:
        return [
            (name, sorted(vars(module)), len(module._forward_hooks), len(module._forward_pre_hooks))
            for name, module in lm.model.named_modules()
        ] + [lm.model.config.to_dict()]

    expected, before = full_answer(lm, ids, 5), state()

    def stop(done: int, layers: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    prefill(lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=soft)
    with pytest.raises(KeyboardInterrupt):
        prefill(lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=soft, on_layer=stop)
    outcome = prefill(lm, ids, [Plan(SnapKV(), 40)])
    steps = decode(lm, outcome.retained[0].cache, outcome.logits, Decoding(max_new_tokens=5))
    next(steps)
    steps.close()
    assert state() == before
    assert full_answer(lm, ids, 5) == expected


def test_progress_is_told_layer_by_layer(lm: LanguageModel, ids: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    prefill(lm, ids, [Plan(SnapKV(), 40)], on_layer=lambda done, layers: seen.append((done, layers)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_judge_q_without_soft_tokens_is_refused(lm: LanguageModel, ids: Tensor) -> None:
    with pytest.raises(InputError, match="soft tokens"):
        prefill(lm, ids, [Plan(JudgeQ(), 8)])


def test_another_attention_is_refused(make_lm: MakeLM, ids: Tensor) -> None:
    lm = make_lm()
    lm.model.set_attn_implementation("eager")
    with pytest.raises(InputError, match="eager"):
        prefill(lm, ids, [Plan(Full(), TOKENS)])


def test_layers_with_a_sliding_window_keep_their_window_and_the_answer(make_lm: MakeLM, ids: Tensor) -> None:
    lm = make_lm("mistral", sliding_window=24)
    outcome = prefill(lm, ids, [Plan(SnapKV(), 16)])
    assert outcome.retained[0].kept == [None] * 4
    expected = full_answer(lm, ids, 8)
    assert answer(lm, outcome, 0, 8) == expected


def test_methods_without_soft_tokens_do_not_pay_for_them(
    lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors
) -> None:
    assert prefill(lm, ids, [Plan(SnapKV(), 8)], soft_tokens=soft).peak_rows == 4 * 8 + TOKENS


def test_a_batch_is_read_at_once(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    batch = torch.cat([ids, ids.flip(1)])
    both = prefill(lm, batch, [Plan(JudgeQ(), 8)], soft_tokens=soft).retained[0]
    for row in range(2):
        one = prefill(lm, batch[row : row + 1], [Plan(JudgeQ(), 8)], soft_tokens=soft).retained[0]
        moved_rows([layer[row] for layer in both.kept], one.kept)


def test_allocations_stand_side_by_side_in_one_pass(lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    plans = [
        Plan(JudgeQ(selection=Selection(allocation=allocation)), 9, profile(8, 64))
        for allocation in get_args(Allocation)
    ]
    together = prefill(lm, ids, plans, soft_tokens=soft)
    assert together.peak_rows <= len(plans) * 4 * 9 + TOKENS + 5
    for plan, retained in zip(plans, together.retained, strict=True):
        alone = prefill(lm, ids, [plan], soft_tokens=soft).retained[0]
        assert retained.cache.kv_bytes == alone.cache.kv_bytes == 4 * 2 * 9 * 16 * 2 * 4
        for ours, theirs in zip(retained.kept, alone.kept, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_random_rows_follow_their_seed(lm: LanguageModel, ids: Tensor) -> None:
    plans = [Plan(RandomRows(seed=seed), 8) for seed in (0, 0, 1)]
    first, again, other = (retained.kept for retained in prefill(lm, ids, plans).retained)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_streaming_llm_keeps_the_first_and_the_last(lm: LanguageModel, ids: Tensor) -> None:
    kept = prefill(lm, ids, [Plan(StreamingLLM(), 10)]).retained[0].kept
    assert kept[3][0, 1].tolist() == [0, 1, 2, 3, *range(TOKENS - 6, TOKENS)]


def queries_of(lm: LanguageModel, embeds: Tensor, first_position: int = 0) -> Tensor:
    """What the model itself asks with, (L, H, S, D)."""
    seen: list[Tensor] = []

    class Queries:
        def observe(self, call: AttentionCall) -> None:
            seen.append(call.queries)

    positions = torch.arange(first_position, first_position + embeds.shape[1])[None]
    lm.model(inputs_embeds=embeds, position_ids=positions, observer=Queries())
    return torch.cat(seen)


def test_queries_turn_as_the_model_turns_its_own(each_lm: LanguageModel) -> None:
    """A token that stands alone differs between two positions by its turn alone, in every layer."""
    embeds = torch.randn((1, 1, 64), generator=torch.Generator().manual_seed(3))
    start, there = (queries_of(each_lm, embeds, position) for position in (0, 50))
    assert not torch.allclose(start, there, atol=1e-2)
    assert torch.allclose(each_lm.rotate(start, 50), there, atol=1e-4)


def test_query_offsets_turn_with_their_position(each_lm: LanguageModel, ids: Tensor, soft: SoftTokenTensors) -> None:
    """Added before RoPE: the scores are those of queries that the model itself would have turned."""
    offsets = torch.randn((4, 4, 5, 16), generator=torch.Generator().manual_seed(4))
    plain = prefill(each_lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=soft).retained[0]
    moved = prefill(each_lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=SoftTokenTensors(soft.embeddings, offsets)).retained[
        0
    ]
    cache = DynamicCache(config=each_lm.model.config)
    embeds = torch.cat([each_lm.model.get_input_embeddings()(ids), soft.embeddings[None]], 1)
    each_lm.model(inputs_embeds=embeds, cache=cache)
    queries = queries_of(each_lm, embeds)[:, :, -5:] + each_lm.rotate(offsets, TOKENS)
    for layer in each_lm.geometry.global_layers:
        assert not torch.allclose(plain.scores[layer], moved.scores[layer], atol=1e-3)
        module = each_lm.model.get_decoder().layers[layer].self_attn
        logits = queries[layer] @ cache.layers[layer].keys.repeat_interleave(2, 1).transpose(2, 3) * module.scaling
        if softcap := getattr(module, "attn_logit_softcapping", None):
            logits = softcap * torch.tanh(logits / softcap)
        hidden = torch.ones(5, TOKENS + 5).triu(TOKENS + 1).bool()
        weights = logits.masked_fill(hidden, -torch.inf).softmax(-1)[..., :TOKENS]
        expected = weights.mean(2).reshape(1, 2, 2, TOKENS).mean(2)
        assert torch.allclose(moved.scores[layer], expected, atol=1e-5)


# Without waiting for a device


class NothingMoves(TorchDispatchMode):
    """Once the first layer is done, no tensor of the CPU goes to the model's device."""

    layers = 0

    def __call__(self, done: int, layers: int) -> None:
        self.layers = done

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        places = [
            {each.device.type for each in tree_leaves(given) if isinstance(each, Tensor) and each.dim()}
            for given in (args, found)
        ]
        assert not self.layers or "cpu" not in places[0] or "meta" not in places[1], func
        return found


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize(
    "way",
    [
        "judgeq",
        "judgeq:memory=4",
        "judgeq:allocation=adakv",
        "judgeq:value_aware=true:allocation=adakv:bits=4",
        "judgeq:allocation=profile",
        "snapkv",
        "pyramidkv",
        "h2o",
    ],
)
def test_nothing_is_read_from_the_device_while_layers_run(
    make_lm: MakeLM, way: str, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, method = make_lm(family), method_from_text(way)
    drawn = soft_tokens(lm, "judgeq")
    assert lm._shows_rotation, "found out once, with values"
    weights = replace(drawn.weights, adapters=LowRank.zero(lm, 2, 0), memory=MemoryTokens(torch.randn(4, 64)))
    lm.model.to("meta")  # whose tensors have no values: whoever asks for one fails
    plan = Plan(method, 40, drawn.profile, Forced(pinned=(3, 4), dropped=(9,)))
    moves, settled = NothingMoves(), []
    monkeypatch.setattr(Retained, "settle", lambda self, seen: settled.append((self, seen)))
    with moves:
        ids = torch.randint(3, 300, (1, TOKENS))
        found = prefill(lm, ids, [plan], soft_tokens=weights, on_layer=moves)
    assert found.logits.device.type == "meta"
    assert moves.layers == lm.geometry.layers
    assert settled == [(found.retained[0], TOKENS)], "what only the device knows is asked for in the end"
