"""Training: honest data, rows computed once, gradients to the soft tokens only, the same result after an interrupt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from judgeq.errors import InputError, JudgeqError
from judgeq.language_model import LanguageModel
from judgeq.methods import JudgeQ
from judgeq.prefill import Plan, prefill
from judgeq.prompts import build_prompt
from judgeq.soft_tokens import Probe, SoftTokens
from judgeq.training import loop
from judgeq.training import store as store_module
from judgeq.training.config import TrainConfig
from judgeq.training.corpus import Article
from judgeq.training.examples import build_examples
from judgeq.training.loop import lesson_loss, train
from judgeq.training.objectives import OBJECTIVES
from judgeq.training.responses import generate_responses
from judgeq.training.store import Store

CONFIG = TrainConfig(
    examples=6, min_tokens=60, max_tokens=160, response_tokens=10, batch=2, n=4, epochs=2, learning_rate=0.02
)
ARTICLES = tuple(
    Article(
        f"Town {number}", f"Town {number} lies by a river. It has {number} towers. Its mayor sings.", "a town"
    )
    for number in range(40)
)


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "wiki_articles", lambda held_out: ARTICLES)


def filled(lm: LanguageModel, folder: Path, config: TrainConfig = CONFIG) -> Store:
    store = Store(folder, lm, config)
    store.fill(lambda done, total: None)
    return store


def test_examples_are_the_same_for_the_same_seed_and_come_in_every_shape(lm: LanguageModel) -> None:
    examples = build_examples(lm, ARTICLES, 200, tokens=(60, 160), seed=3)
    assert examples == build_examples(lm, ARTICLES, 200, tokens=(60, 160), seed=3)
    assert {example.kind for example in examples} == {"article", "description", "all", "facts"}
    assert {example.question_first for example in examples} == {True, False}
    for example in examples:
        assert example.answer in example.document


def test_documents_have_the_asked_length(lm: LanguageModel) -> None:
    for example in build_examples(lm, ARTICLES, 50, tokens=(100, 300), seed=1):
        assert 60 <= len(lm.tokenizer(example.document)["input_ids"]) <= 700


def test_a_batch_answers_as_one_by_one(lm: LanguageModel) -> None:
    prompts = [torch.randint(3, 300, (size,)) for size in (20, 45, 31)]
    for prompt, response in zip(prompts, generate_responses(lm, prompts, 9), strict=True):
        alone = lm.model.generate(
            prompt[None], max_new_tokens=9, do_sample=False, eos_token_id=sorted(lm.eos_ids), pad_token_id=0
        )[0, len(prompt) :]
        assert response.ids.tolist() == [token for token in alone.tolist() if token not in lm.eos_ids]
        (again,) = generate_responses(lm, [prompt], 9)
        assert response.keys.shape[2] == len(prompt) + len(response.ids)
        assert torch.allclose(response.keys, again.keys, atol=1e-4)


def test_a_lesson_scores_as_the_prefill_does(lm: LanguageModel, tmp_path: Path) -> None:
    """Soft tokens against stored rows see what they see behind the prompt itself, up to half precision."""
    store = filled(lm, tmp_path)
    example = build_examples(lm, ARTICLES, 6, tokens=(60, 160), seed=0)[0]
    prompt = build_prompt(lm, example.document, example.question, question_first=example.question_first)
    lesson = store[0]
    soft = Probe(torch.randn(4, 64), torch.randn(4, 4, 4, 16))
    reference = prefill(lm, prompt.input_ids, [Plan(JudgeQ(), 8)], soft_tokens=soft).retained[0]
    recorder = store_module.AttentionRecorder(soft.offsets_at(lm, prompt.tokens))
    cache = lesson.cache(torch.float32, torch.device("cpu"))
    if lesson.keys.shape[2] == prompt.tokens:  # no response token belongs to this lesson's prompt
        lm.model(inputs_embeds=soft.embeddings[None], past_key_values=cache, observer=recorder)
        for ours, scores in zip(recorder.layers, reference.scores, strict=True):
            assert torch.allclose(ours.mean(2), scores, atol=5e-3)
    assert lesson.keys.shape[2] >= prompt.tokens
    assert torch.isfinite(lesson.teacher).all()
    assert (lesson.teacher.float().sum(-1) <= 1.01).all()


def test_some_prompts_end_in_the_middle_of_the_answer(lm: LanguageModel, tmp_path: Path) -> None:
    with_prefix = filled(lm, tmp_path / "a")
    without = filled(lm, tmp_path / "b", TrainConfig(**{**CONFIG.to_dict(), "prefix_tokens": 0}))
    longer = [with_prefix[at].keys.shape[2] - without[at].keys.shape[2] for at in range(len(with_prefix))]
    assert min(longer) == 0
    assert 0 < max(longer) <= CONFIG.prefix_tokens


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_an_objective_is_zero_for_equal_attention_and_positive_otherwise(name: str) -> None:
    teacher = torch.rand(2, 3, 50).softmax(-1) * 0.8
    assert OBJECTIVES[name](teacher, teacher, 0.5).item() == pytest.approx(0, abs=1e-5)
    assert OBJECTIVES[name](teacher.flip(-1), teacher, 0.5) > 1e-6


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
@pytest.mark.parametrize("capacity", ["embeddings", "offsets"])
def test_training_lowers_the_loss_and_touches_nothing_else(
    lm: LanguageModel, tmp_path: Path, objective: str, capacity: str
) -> None:
    before = {name: weight.clone() for name, weight in lm.model.named_parameters()}
    config = TrainConfig(**{**CONFIG.to_dict(), "objective": objective, "capacity": capacity, "epochs": 12})
    tokens = train(lm, config, tmp_path)
    store = Store(tmp_path / "store", lm, config)
    initial = loop.initial_tokens(lm, config, store).probe

    def loss(probe: Probe) -> float:
        return sum(lesson_loss(lm, probe, store[at], config).item() for at in range(len(store)))

    assert loss(tokens.probe) < 0.8 * loss(initial)
    for name, weight in lm.model.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.grad is None
    assert tokens.config.recipe["objective"] == objective
    assert same(SoftTokens.for_model(lm, tmp_path), tokens)
    assert (tokens.probe.query_offsets is None) == (capacity == "embeddings")


def same(ours: SoftTokens, theirs: SoftTokens) -> bool:
    mine, others = ours.tensors(), theirs.tensors()
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


class Stop(Exception):
    """Stands for whatever ends a run early."""


@pytest.mark.parametrize(("phase", "at"), [("responses", 4), ("training", 2), ("training", 5)])
def test_an_interrupted_run_ends_with_the_same_soft_tokens(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, at: int
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_STEPS", 2)
    straight = train(lm, CONFIG, tmp_path / "straight")

    def stop(now: str, done: int, total: int, loss: float | None) -> None:
        if (now, done) == (phase, at):
            raise Stop

    with pytest.raises(Stop):
        train(lm, CONFIG, tmp_path / "broken", progress=stop)
    assert not (tmp_path / "broken" / "judgeq_config.json").exists()
    seen: list[tuple[str, int]] = []
    resumed = train(
        lm, CONFIG, tmp_path / "broken", progress=lambda now, done, total, loss: seen.append((now, done))
    )
    assert same(resumed, straight)
    assert json.loads((tmp_path / "broken" / "losses.json").read_text()) == json.loads(
        (tmp_path / "straight" / "losses.json").read_text()
    )
    if phase == "responses":
        assert seen[0] == ("responses", at)  # nothing finished is computed again
    else:
        assert ("training", 1) not in seen


def test_rows_of_another_recipe_are_refused(lm: LanguageModel, tmp_path: Path) -> None:
    filled(lm, tmp_path)
    with pytest.raises(InputError, match="another model or other data settings"):
        filled(lm, tmp_path, TrainConfig(**{**CONFIG.to_dict(), "seed": 5}))


def test_a_loss_that_is_no_number_stops_the_run(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "tempered", lambda student, teacher, temper: student.sum() * torch.nan)
    with pytest.raises(JudgeqError, match="smaller --learning-rate"):
        train(lm, CONFIG, tmp_path)
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == CONFIG.examples
