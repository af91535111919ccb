"""Adapters: act at the last positions, in their own block, in their own thread, and nowhere else."""

from __future__ import annotations

import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2MoeConfig

from judgeq.errors import InputError
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import JudgeQ
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.tensors import SoftTokenTensors


def random_adapters(lm: LanguageModel, rank: int = 3) -> LowRank:
    torch.manual_seed(0)
    return LowRank.zero(lm, rank, seed=0).map(lambda tensor: torch.randn_like(tensor) * 0.2)


def logits(lm: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(ids).logits[0]


def test_fresh_adapters_change_nothing_and_trained_ones_only_the_last_positions(
    each_lm: LanguageModel,
) -> None:
    lm, ids = each_lm, torch.randint(3, 300, (1, 20))
    plain = logits(lm, ids)
    with LowRank.zero(lm, 3, seed=0).attached(lm, positions=5):
        assert torch.equal(logits(lm, ids), plain)
    with random_adapters(lm).attached(lm, positions=5):
        changed = logits(lm, ids)
    assert torch.allclose(changed[:15], plain[:15], atol=1e-5)  # experts round by their load
    assert ((changed[15:] - plain[15:]).abs().amax(-1) > 1e-3).all()
    assert torch.equal(logits(lm, ids), plain)


def test_the_sum_is_the_low_rank_term_of_every_linear_map(lm: LanguageModel) -> None:
    adapters = random_adapters(lm)
    ids = torch.randint(3, 300, (1, 12))
    with adapters.attached(lm, positions=12):
        hooked = logits(lm, ids)
    layers = lm.model.base_model.layers
    with torch.no_grad():
        for name in adapters.down:
            layers.get_submodule(name).weight += (adapters.down[name] @ adapters.up[name]).T
        merged = logits(lm, ids)
        for name in adapters.down:
            layers.get_submodule(name).weight -= (adapters.down[name] @ adapters.up[name]).T
    assert torch.allclose(hooked, merged, atol=1e-4)


def test_another_thread_sees_the_plain_model(lm: LanguageModel) -> None:
    ids = torch.randint(3, 300, (1, 12))
    plain, seen = logits(lm, ids), []
    with random_adapters(lm).attached(lm, positions=4):
        thread = threading.Thread(target=lambda: seen.append(logits(lm, ids)))
        thread.start()
        thread.join()
    assert torch.equal(seen[0], plain)


def test_an_error_inside_leaves_the_model_clean(lm: LanguageModel) -> None:
    ids = torch.randint(3, 300, (1, 12))
    plain = logits(lm, ids)
    with pytest.raises(ZeroDivisionError), random_adapters(lm).attached(lm, positions=4):
        raise ZeroDivisionError
    assert torch.equal(logits(lm, ids), plain)


def test_the_prompt_is_read_as_ever_and_the_scores_differ(lm: LanguageModel) -> None:
    ids, soft = torch.randint(3, 300, (1, 40)), torch.randn(4, 64)
    plain = prefill(lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=SoftTokenTensors(soft))
    adapted = prefill(lm, ids, [Plan(JudgeQ(), 8)], soft_tokens=SoftTokenTensors(soft, adapters=random_adapters(lm)))
    assert torch.allclose(plain.logits, adapted.logits, atol=1e-5)
    ours, theirs = plain.retained[0].scores, adapted.retained[0].scores
    assert (ours[2] - theirs[2]).abs().max() > 1e-4


def test_adapters_of_another_model_are_refused(lm: LanguageModel, make_lm) -> None:
    with pytest.raises(InputError, match="belongs to another model"):
        random_adapters(lm).check(make_lm(intermediate_size=128))
    random_adapters(lm).check(lm)


@pytest.mark.filterwarnings("ignore:tiny-qwen2_moe is of the family")
def test_experts_have_none(tokenizer) -> None:
    """They see the tokens of all prompts in a row, or the few that are sent to them."""
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = Qwen2MoeConfig(num_hidden_layers=1, **sizes, **experts, pad_token_id=0)
    lm = LanguageModel.wrap(AutoModelForCausalLM.from_config(config), tokenizer, name="tiny-qwen2_moe")
    maps = ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert list(LowRank.zero(lm, 2, seed=0).down) == [f"0.self_attn.{name}" for name in maps]
