"""What each method scores by, against the definition written out; what a layer computes once for all who ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache

from judgeq.attention import registry as attention
from judgeq.attention.registry import output_weight
from judgeq.config import Allocation, Decoding, Selection
from judgeq.errors import InputError, ModelError
from judgeq.inference import lookahead as reference
from judgeq.inference import plan as planning
from judgeq.inference.decode import decode
from judgeq.inference.lookahead import prefill_with_lookahead
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill, second_pass
from judgeq.inference.prefill_batch import prefill_padded
from judgeq.inference.request import Request
from judgeq.methods import (
    H2O,
    LAQ,
    METHODS,
    JudgeQ,
    JudgeQDraft,
    KeyNorm,
    LayerView,
    Method,
    PyramidKV,
    SnapKV,
    scoring,
)
from judgeq.methods.scoring import accumulated_attention, output_norms
from judgeq.methods.selection import pyramid_rows
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import build_model, build_tokenizer
from tests.test_prefill import attention_of
from tests.test_profile import profile

TOKENS = 90


def full_rows(lm: LanguageModel, ids: Tensor) -> DynamicCache:
    cache = DynamicCache(config=lm.model.config)
    lm.model(ids, cache=cache)
    return cache


def test_every_method_has_its_name() -> None:
    expected = (
        "full judgeq judgeq+draft stockanswer snapkv defensivekv pyramidkv chunkkv h2o tova laq expectedattention "
        "keynorm streamingllm random kvzip kvzip+ oracle"
    )
    assert list(METHODS) == expected.split()


# Attention of all queries


def test_heavy_hitters_get_most_of_the_attention_of_all_queries(
    some_lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "QUERY_BLOCK", 32)  # the last of three blocks is shorter
    plans = [Plan(H2O(), 40), Plan(H2O(average=True), 40), Plan(H2O(group="max"), 40)]
    found = prefill(some_lm, ids, plans).retained
    seen_by = torch.arange(TOKENS, 0, -1)
    paid = attention_of(some_lm, some_lm.model.get_input_embeddings()(ids))
    for layer in some_lm.geometry.global_layers:
        weights = paid[layer]
        assert weights.shape[-2:] == (TOKENS, TOKENS)
        summed = weights.sum(2).reshape(1, 2, 2, TOKENS)
        expected = summed.mean(2), summed.mean(2) / seen_by, summed.amax(2)
        for retained, scores in zip(found, expected, strict=True):
            assert torch.allclose(retained.scores[layer], scores, atol=1e-4)


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_no_tensor_grows_with_the_square_of_the_prompt() -> None:
    tokens, block = 2000, 64
    drawn = torch.Generator().manual_seed(3)
    queries, keys = (torch.randn(1, heads, tokens, 8, generator=drawn) for heads in (2, 1))
    with Largest() as seen:
        accumulated_attention(queries, keys, 0.3, block)
    assert 0 < seen.elements <= 2 * block * tokens < tokens * tokens


# Keys alone


def test_short_keys_score_high(some_lm: LanguageModel, ids: Tensor) -> None:
    retained = prefill(some_lm, ids, [Plan(KeyNorm(), 9)]).retained[0]
    cache = full_rows(some_lm, ids)
    for layer in some_lm.geometry.global_layers:
        expected = -cache.layers[layer].keys.pow(2).sum(-1).sqrt()
        assert torch.allclose(retained.scores[layer], expected, atol=1e-4)
        best = expected.topk(9, -1).values
        assert torch.allclose(expected.gather(-1, retained.kept[layer]).sort(descending=True).values, best)


def test_key_norms_are_told_apart_in_sixteen_bits() -> None:
    keys = torch.full((1, 1, 2, 64), 1.0, dtype=torch.bfloat16)
    keys[0, 0, 1, 0] = 1.25
    view = LayerView(0, keys, keys, keys, 1.0, None, None, Tensor, prompt_tokens=2)
    scores = KeyNorm().score(view)
    assert scores.dtype == torch.float32
    assert scores[0, 0].tolist() == pytest.approx([-8.0, -((64 + 0.5625) ** 0.5)], abs=1e-6)


# SnapKV's family


def test_pyramidkv_scores_like_snapkv_and_spends_its_rows_on_early_layers(some_lm: LanguageModel, ids: Tensor) -> None:
    plans = [Plan(SnapKV(), 40), Plan(PyramidKV(), 40)]
    even, pyramid = prefill(some_lm, ids, plans).retained
    layers = some_lm.geometry.global_layers
    wanted = pyramid_rows(40, TOKENS, len(layers), PyramidKV().selection).tolist()
    assert wanted[0] > wanted[-1]
    assert sum(wanted) == 40 * len(layers)  # those with a sliding window take no part in the split
    assert [[len(rows) for rows in pyramid.kept[layer]] for layer in layers] == [[rows] * 2 for rows in wanted]
    assert pyramid.cache.kv_bytes == even.cache.kv_bytes
    for layer in layers:
        assert torch.equal(pyramid.scores[layer], even.scores[layer])


def test_a_draft_asks_the_complete_rows(some_lm: LanguageModel, ids: Tensor) -> None:
    draft = torch.randint(3, 300, (1, 8), generator=torch.Generator().manual_seed(4))
    rows = prefill(some_lm, ids, [Plan(METHODS["full"](), TOKENS)]).retained[0].cache.frozen()
    scores = second_pass(some_lm, ids, rows, draft, [Plan(LAQ(), 40)]).retained[0].scores
    embeds = some_lm.model.get_input_embeddings()(torch.cat([ids, draft], 1))
    paid = attention_of(some_lm, embeds)
    for layer in some_lm.geometry.global_layers:
        expected = paid[layer][..., TOKENS:, :TOKENS].mean(2).reshape(1, 2, 2, TOKENS).mean(2)
        assert torch.allclose(scores[layer], expected, atol=1e-5)


def test_soft_tokens_behind_a_draft_ask_together_with_it(some_lm: LanguageModel, ids: Tensor) -> None:
    draft = torch.randint(3, 300, (1, 5), generator=torch.Generator().manual_seed(4))
    shape = (4, 4, 3, 16)  # layers, heads, soft tokens, head dimension
    soft = SoftTokenTensors(torch.randn(3, 64), torch.randn(shape), LowRank.zero(some_lm, 2, seed=0))
    rows = prefill(some_lm, ids, [Plan(METHODS["full"](), TOKENS)]).retained[0].cache.frozen()
    found = second_pass(some_lm, ids, rows, draft, [Plan(JudgeQDraft(), 40)], soft_tokens=soft).retained[0].scores
    of_draft = second_pass(some_lm, ids, rows, draft, [Plan(LAQ(), 40)]).retained[0].scores
    behind = prefill(some_lm, torch.cat([ids, draft], 1), [Plan(JudgeQ(), 40)], soft_tokens=soft)
    for layer in some_lm.geometry.global_layers:
        expected = (of_draft[layer] + behind.retained[0].scores[layer][..., :TOKENS]) / 2
        assert torch.allclose(found[layer], expected, atol=1e-5)
    with pytest.raises(InputError, match="needs soft tokens"):
        second_pass(some_lm, ids, rows, draft, [Plan(JudgeQDraft(), 40)])


def test_the_draft_of_judge_q_is_written_from_its_own_rows(
    lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = SoftTokenTensors(torch.randn(3, 64))
    first = prefill(lm, ids, [Plan(JudgeQ(), 12)], soft_tokens=soft)
    written = [
        step.token
        for step in decode(lm, first.retained[0].cache, first.logits, Decoding(max_new_tokens=6))
        if step.token not in lm.eos_ids
    ]
    drafts: list[Tensor] = []
    look = reference.second_pass
    monkeypatch.setattr(
        reference,
        "second_pass",
        lambda lm, prompt, rows, ids, *a, **k: drafts.append(ids) or look(lm, prompt, rows, ids, *a, **k),
    )
    prefill_with_lookahead(Request(lm, ids, [Plan(JudgeQDraft(draft=6), 12)], soft_tokens=soft))
    assert [draft.tolist() for draft in drafts] == [[written]]
    with pytest.raises(InputError, match="draft is 0"):
        JudgeQDraft(draft=0)


# Values


def naive_norms(lm: LanguageModel, ids: Tensor) -> dict[int, Tensor]:
    """For each global layer (1, H_kv, T): the L1 norm of what the output projection makes of one head's value alone."""
    found, cache = {}, full_rows(lm, ids)
    for at in lm.geometry.global_layers:
        layer, cached = lm.model.base_model.layers[at], cache.layers[at]
        spread = torch.zeros(1, 4, TOKENS, 64)
        for head in range(4):
            alone = torch.zeros(TOKENS, 64)  # all heads' outputs side by side, this one's value in its place
            alone[:, head * 16 : (head + 1) * 16] = cached.values[0, head // 2]
            spread[0, head] = layer.self_attn.o_proj(alone)
        found[at] = spread.abs().sum(-1).reshape(1, 2, 2, TOKENS).mean(2)
    return found


def test_a_value_weighs_what_the_output_projection_makes_of_it(each_lm: LanguageModel, ids: Tensor) -> None:
    layers, cached = each_lm.model.base_model.layers, full_rows(each_lm, ids).layers
    for layer, norms in naive_norms(each_lm, ids).items():
        found = output_norms(cached[layer].values, layers[layer].self_attn.o_proj.weight)
        assert torch.allclose(found, norms, rtol=1e-4)


@pytest.mark.parametrize("allocation", ["uniform", "pyramid", "profile", "adakv", "profile+adakv"])
def test_values_count_in_the_second_half_of_every_allocation(
    some_lm: LanguageModel, ids: Tensor, allocation: Allocation
) -> None:
    selection = Selection(recent=4, pool=1, allocation=allocation)
    aware = Selection(recent=4, pool=1, allocation=allocation, value_aware=True)
    layers = some_lm.geometry.global_layers
    learned = profile(8, 64, layers=len(layers))
    plans = [Plan(SnapKV(selection=chosen), 13, learned) for chosen in (selection, aware)]
    plain, valued = prefill(some_lm, ids, plans).retained
    assert plain.cache.kv_bytes == valued.cache.kv_bytes
    assert any(
        not torch.equal(ours, theirs)
        for layer in layers
        for ours, theirs in zip(plain.kept[layer], valued.kept[layer], strict=True)
    )
    for layer, norms in naive_norms(some_lm, ids).items():
        kept = [of.kept[layer][0] if allocation == "uniform" else of.kept[layer] for of in (plain, valued)]
        scores = valued.scores[layer][0, :, :-4]
        for head, (rows, found) in enumerate(zip(*kept, strict=True)):
            first = scores[head].topk(max(len(rows) // 2 - 4, 0)).indices
            worth = ((scores[head] + 1e-4) * norms[0, head, :-4]).index_fill(0, first, torch.inf)
            expected = worth.topk(len(rows) - 4).indices.sort().values
            assert torch.equal(found, torch.cat([expected, torch.arange(TOKENS - 4, TOKENS)]))


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
@pytest.mark.parametrize("used", [False, True])
def test_quantized_projections_are_read(quantization: str, used: bool, tmp_path: Path) -> None:
    """Also after their first use, when bitsandbytes may have packed them in another way."""
    functional = pytest.importorskip("bitsandbytes").functional
    build_model(intermediate_size=128).save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    lm = load(tmp_path, device="cpu", quantization=quantization)
    module = lm.model.base_model.layers[0].self_attn
    weight = module.o_proj.weight
    if quantization == "4bit":
        expected = functional.dequantize_4bit(weight.data, weight.quant_state).float()
    else:
        expected = functional.int8_vectorwise_dequant(weight.data, weight.SCB).float()
    with torch.inference_mode():
        if used:
            lm.model(torch.arange(3, 60)[None])
        found = output_weight(module, torch.zeros(1, 4, 1, 16))
    assert found.shape == (64, 64)
    assert torch.allclose(found, expected, atol=0.01 * float(expected.abs().max()))


def test_a_projection_is_read_past_its_hooks() -> None:
    class Other(nn.Linear):
        pass

    module = nn.Module()
    module.o_proj = Other(64, 32)
    module.o_proj.register_forward_hook(lambda *_: torch.zeros(64, 32))
    found = output_weight(module, torch.zeros(1, 4, 1, 16))
    assert torch.allclose(found, module.o_proj.weight, atol=1e-6)


def test_a_model_without_an_output_projection_is_refused() -> None:
    with pytest.raises(ModelError, match=r"o_proj: leave value_aware out"):
        output_weight(nn.Linear(2, 2), torch.zeros(1, 1, 1, 2))


def test_who_does_not_ask_for_values_does_not_pay_for_them(
    lm: LanguageModel, ids: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(attention, "output_weight", lambda module, queries: asked.append(1) or module.o_proj.weight)
    prefill(lm, ids, [Plan(SnapKV(), 9), Plan(PyramidKV(), 9), Plan(H2O(), 9)])
    assert not asked
    aware = Selection(value_aware=True)
    several = [(SnapKV, 9), (SnapKV, 20), (H2O, 9)]
    prefill(lm, ids, [Plan(method(selection=aware), budget) for method, budget in several])
    assert len(asked) == 4  # once a layer


# Once for all who ask


@pytest.mark.parametrize(
    ("methods", "attentions", "rankings"),
    [
        ([SnapKV(), SnapKV()], 1, 1),
        ([H2O()], 1, 1),
        ([SnapKV(), PyramidKV(), SnapKV(selection=Selection(pool=1))], 1, 3),
        ([H2O(), H2O(average=True)], 1, 2),
        ([SnapKV(), SnapKV(window=8), H2O()], 3, 3),
    ],
)
def test_several_budgets_look_and_rank_once_a_layer(
    lm: LanguageModel,
    ids: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    methods: list[Method],
    attentions: int,
    rankings: int,
) -> None:
    calls: dict[str, int] = {}

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return function(*arguments)

        return call

    monkeypatch.setattr(scoring, "attention_logits", counted("attention", scoring.attention_logits))
    monkeypatch.setattr(planning, "rank_rows", counted("ranking", planning.rank_rows))
    plans = [Plan(method, budget) for method in methods for budget in (9, 20, 33, 50)]
    together = prefill(lm, ids, plans).retained
    assert calls == {"attention": 4 * attentions, "ranking": 4 * rankings}
    for plan, retained in zip(plans, together, strict=True):
        alone = prefill(lm, ids, [plan]).retained[0]
        assert retained.cache.kv_bytes == alone.cache.kv_bytes
        for ours, theirs in zip(retained.kept, alone.kept, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_method_at_several_budgets_scores_once_a_layer(lm: LanguageModel, ids: Tensor) -> None:
    scored: list[tuple[int, int]] = []

    @dataclass(frozen=True)
    class Counted(Method):
        name = "counted"
        seed: int = 0

        def score(self, view: LayerView) -> Tensor:
            scored.append((self.seed, view.layer))
            return view.keys[..., 0]

    prefill(lm, ids, [Plan(Counted(seed=seed), budget) for budget in (9, 20, 33, 50) for seed in (0, 1)])
    assert scored == [(seed, layer) for layer in range(4) for seed in (0, 1)]


def test_random_rows_differ_from_prompt_to_prompt_and_are_those_of_a_prompt(lm: LanguageModel) -> None:
    prompts = [torch.randint(3, 300, (1, 60), generator=torch.Generator().manual_seed(at)) for at in (1, 2)]
    plan = Plan(METHODS["random"](), 20)

    def kept(ids: Tensor, **options: Any) -> list[list[list[int]]]:
        rows = prefill(lm, ids, [plan], **options).retained[0].kept
        return [each[0].tolist() for each in rows if isinstance(each, Tensor)]

    first, second = map(kept, prompts)
    assert not any(ours == theirs for ours, theirs in zip(first, second, strict=True))
    assert kept(prompts[0]) == kept(prompts[0], chunk=16) == first
    both = prefill(lm, torch.cat(prompts), [plan]).retained[0].kept
    assert [[each[at].tolist() for each in both if isinstance(each, Tensor)] for at in (0, 1)] == [
        first,
        second,
    ]
    apart = prefill_padded(lm, [prompts[0][:, 10:], prompts[1]], [[plan], [plan]])
    assert [each[0].tolist() for each in apart[1].retained[0].kept if isinstance(each, Tensor)] == second
    assert len({tuple(head) for layer in first for head in layer}) == 8
