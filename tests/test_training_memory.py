"""Memory tokens in training: they learn beside soft tokens that stay, by the answers that the library would give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from judgeq.errors import InputError
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.examples import TrainingExample
from judgeq.training.memory_tokens import MemoryRun
from judgeq.training.optimization import Setting
from judgeq.training.train import train
from judgeq.training.workers import Workers
from tests.test_memory_rows import MEMORY, weights_of
from tests.test_training import CONFIG, changed, filled, same, small_corpus

__all__ = ["small_corpus"]


@pytest.fixture
def memory_run(some_lm: LanguageModel, tmp_path: Path) -> MemoryRun:
    """Over random soft and memory tokens of which the last adapters do something."""
    weights, train_set = weights_of(some_lm), filled(some_lm, tmp_path / "store")
    config = changed(memory=MEMORY, memory_epochs=1)
    return MemoryRun(Setting(some_lm, config, train_set, train_set, Workers()), tmp_path / "none", weights, weights)


@pytest.mark.parametrize(("budget", "used"), [(16, MEMORY), (6, 3), (40, MEMORY)])
def test_the_loss_is_that_of_the_librarys_own_answer(memory_run: MemoryRun, budget: int, used: int) -> None:
    lm, example = memory_run.lm, memory_run.train_set[0]
    assert len(example.prompt) > 2 * budget
    with torch.no_grad():
        (found,) = memory_run._divergences(example, [budget])
    plan = Plan(method_from_text(f"judgeq:memory={used}"), budget)
    kept = prefill(lm, example.prompt[None], [plan], soft_tokens=memory_run.weights).retained[0]
    assert kept.memory == used
    ids = example.response[None, :-1]
    with torch.no_grad():
        student = lm.model(ids, cache=kept.cache, use_cache=True).logits[0].log_softmax(-1)
        whole = lm.model(torch.cat([example.prompt[None], ids], 1)).logits[0, len(example.prompt) :]
    teacher = whole.log_softmax(-1)
    expected = F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1).mean()
    assert torch.allclose(found, expected, atol=2e-3)  # stored rows are in half precision


def test_memory_tokens_learn_and_nothing_else_changes(lm: LanguageModel, tmp_path: Path) -> None:
    store = tmp_path / "store"
    soft = train(lm, CONFIG, tmp_path / "soft", store=store)
    more = changed(start=str(tmp_path / "soft"), epochs=0, memory=3, memory_epochs=8, learning_rate=0.05)
    both = train(lm, more, tmp_path / "both", store=store)
    tensors = both.weights.tensors()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in soft.weights.tensors().items())
    assert both.config.memory == both.weights.memory_tokens == 3
    assert both.config.earlier[-1] == soft.config.recipe
    figures = both.config.metrics
    assert figures["held_out_divergence_64"] != figures["held_out_divergence_64_without"]
    assert figures["held_out_hit_rate_64"] == soft.config.metrics["held_out_hit_rate_64"]
    assert same(SoftTokens.for_model(lm, tmp_path / "both"), both)

    train_set = filled(lm, store)
    setting = Setting(lm, more, train_set, train_set, Workers())
    first, last = (MemoryRun(setting, tmp_path / "none", both.weights, start) for start in (soft.weights, both.weights))
    examples: list[TrainingExample] = [train_set[at] for at in range(len(train_set))]
    with torch.no_grad():
        assert last.losses(examples).mean() < first.losses(examples).mean()
    assert torch.equal(last.weights.appended_embeddings(), both.weights.appended_embeddings())


def test_soft_tokens_never_lose_their_memory_tokens_silently(lm: LanguageModel, tmp_path: Path) -> None:
    train(lm, changed(memory=2), tmp_path / "both", store=tmp_path / "store")
    with pytest.raises(InputError, match=r"has 2 memory tokens.*give --memory 2"):
        train(lm, changed(start=str(tmp_path / "both")), tmp_path / "more", store=tmp_path / "store")


def test_a_recipe_trains_something() -> None:
    with pytest.raises(InputError, match="no memory tokens to train"):
        changed(epochs=0)
