"""Training: honest data, rows computed once, gradients to the soft tokens only, the same result after an interrupt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from judgeq.attention.call import AttentionCall
from judgeq.attention.registry import ATTENTION
from judgeq.config import Selection
from judgeq.data import wiki
from judgeq.data.articles import Article
from judgeq.data.example import Example
from judgeq.data.jsonl import JsonLinesSource
from judgeq.errors import InputError, JudgeqError, ModelError
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import JudgeQ
from judgeq.methods.scoring import attention_to_prompt
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import Message
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.training import store as stores
from judgeq.training.budget_profile import best_shares, learn_profile
from judgeq.training.config import TrainConfig
from judgeq.training.curve import CURVES, curve_figure, write_curve
from judgeq.training.examples import AttentionRecorder, PromptRows, TrainingExample
from judgeq.training.objectives import OBJECTIVES
from judgeq.training.optimization import passes
from judgeq.training.progress import Progress
from judgeq.training.responses import generate_responses
from judgeq.training.store import Store
from judgeq.training.train import example_losses, train
from judgeq.training.trainable import (
    attention_to_example,
    held_out_hit_rates,
    initial_tokens,
    let_gradients_through,
    trainable,
)
from judgeq.training.workers import Workers
from tests.fixtures import MakeLM

CONFIG = TrainConfig(
    data="wiki",
    examples=6,
    min_tokens=60,
    max_tokens=160,
    response_tokens=10,
    prefix_tokens=8,
    batch=2,
    n=4,
    rank=2,
    epochs=2,
    held_out=3,
)
ARTICLES = tuple(
    Article(f"Town {number}", f"Town {number} lies by a river. It has {number} towers. Its mayor sings.", "a town")
    for number in range(40)
)


@pytest.fixture(autouse=True)
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiki, "wiki_articles", lambda held_out: ARTICLES[held_out::2])


@pytest.fixture(autouse=True)
def blank_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A curve takes a second to draw: the test that looks at one draws it."""

    def write(history: object, folder: Path) -> None:
        for name in CURVES:
            (folder / name).touch()

    monkeypatch.setattr("judgeq.training.train.write_curve", write)


def changed(**values: object) -> TrainConfig:
    return TrainConfig(**{**CONFIG.to_dict(), **values})


def examples(lm: LanguageModel, config: TrainConfig = CONFIG) -> list[Example]:
    tokens = (config.min_tokens, config.max_tokens)
    return wiki.WikiSource().examples(lm, config.examples, tokens=tokens, seed=config.seed)


def store(lm: LanguageModel, folder: Path, config: TrainConfig = CONFIG, rows: bool = True) -> Store:
    return Store(folder, lm, config, wiki.WikiSource(), config.examples, rows)


def filled(lm: LanguageModel, folder: Path, config: TrainConfig = CONFIG) -> Store:
    train_set = store(lm, folder, config)
    train_set.fill(Progress(), Workers(), limit_gb=1)
    return train_set


def all_of(train_set: Store) -> list[TrainingExample]:
    return [train_set[at] for at in range(len(train_set))]


class Log(Progress):
    """Remembers what it gets; stops the run where it should."""

    def __init__(self, stop: tuple[str, int] | None = None) -> None:
        self.notes: list[str] = []
        self.seen: list[tuple[str, int]] = []
        self.figures: list[dict[str, float]] = []
        self.stop = stop

    def note(self, text: str) -> None:
        self.notes.append(text)

    def advance(self, phase: str, done: int, total: int, **figures: float) -> None:
        self.seen.append((phase, done))
        self.figures.append(figures)
        if (phase, done) == self.stop:
            raise Stop


class Stop(Exception):
    """Stands for whatever ends a run early."""


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


def test_sampled_responses_differ_by_seed_and_repeat_with_it(lm: LanguageModel) -> None:
    prompts = [torch.randint(3, 300, (size,)) for size in (20, 45)]

    def sampled(seed: int) -> list[list[int]]:
        responses = generate_responses(lm, prompts, 9, temperature=1.0, seed=seed)
        return [response.ids.tolist() for response in responses]

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)


def test_an_example_scores_as_the_prefill_does(each_lm: LanguageModel, tmp_path: Path) -> None:
    """Soft tokens against stored rows attend as they do after the prompt itself, up to half precision."""
    lm = each_lm
    train_set = filled(lm, tmp_path, changed(prefix_tokens=0))
    prompt = examples(lm)[0].input_ids(lm)
    fresh = trainable(SoftTokenTensors(torch.randn(4, 64)), lm, CONFIG)
    assert fresh.adapters is not None
    soft = SoftTokenTensors(
        fresh.embeddings.detach(),
        torch.randn(4, 4, 4, 16),
        fresh.adapters.map(lambda tensor: torch.randn_like(tensor) * 0.2),
    )
    reference = prefill(lm, prompt, [Plan(JudgeQ(), 8)], soft_tokens=soft).retained[0]
    assert torch.equal(train_set[0].prompt, prompt[0])
    expected = [reference.scores[layer] for layer in lm.geometry.global_layers]
    with torch.no_grad():
        for ours, scores in zip(attention_to_example(lm, soft, train_set[0]), expected, strict=True):
            assert torch.allclose(ours.mean(1), scores[0], atol=5e-3)


@pytest.mark.parametrize("question", ["known", "unknown"])
def test_the_teacher_is_the_mean_attention_of_the_response(
    some_lm: LanguageModel, tmp_path: Path, question: str
) -> None:
    lm = some_lm
    train_set = filled(lm, tmp_path, changed(question=question))
    assert train_set[0].teacher.shape[0] == train_set[0].keys.shape[0] == len(lm.geometry.global_layers)
    for index in range(len(train_set)):
        example = train_set[index]
        recorder = AttentionRecorder()
        with torch.no_grad():
            cache = PromptRows(lm, [example]).cache
            lm.model(example.response[None], cache=cache, observer=recorder)
        again = torch.cat(recorder.layers)
        assert torch.allclose(again, example.teacher.float(), atol=2e-3)
        assert (again.sum(-1) <= 1.01).all()


def random_weights(lm: LanguageModel) -> SoftTokenTensors:
    sizes, generator = lm.geometry, torch.Generator().manual_seed(3)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    fresh = trainable(SoftTokenTensors(drawn(4, sizes.hidden)), lm, CONFIG)
    assert fresh.adapters is not None
    return SoftTokenTensors(
        fresh.embeddings,
        drawn(sizes.layers, sizes.heads, 4, sizes.head_dim).requires_grad_(),
        fresh.adapters.map(lambda tensor: (drawn(*tensor.shape) * 0.2).requires_grad_()),
    )


@pytest.mark.parametrize(("stored", "padded"), [(True, False), (True, True), (False, True)])
@pytest.mark.parametrize("family", ["llama", "qwen3", "mixtral"])
def test_examples_in_one_pass_teach_what_each_teaches(
    make_lm: MakeLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, stored: bool, padded: bool
) -> None:
    """Apart, as on a CPU, or padded, as on a GPU."""
    if padded:
        monkeypatch.setattr("judgeq.training.train.prompt_rows", lambda lm, group: [PromptRows(lm, group)])
    lm = make_lm(family)
    train_set = all_of(filled(lm, tmp_path))[:4]
    if not stored:
        train_set = [replace(example, keys=None, values=None) for example in train_set]
    assert len({len(example.prompt) for example in train_set}) > 1
    weights = random_weights(lm)
    leaves = [weights.embeddings, weights.query_offsets, *weights.adapters.up.values()]  # type: ignore[list-item, union-attr]

    def outcome(groups: list[list[TrainingExample]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        losses = torch.cat([example_losses(lm, weights, group, CONFIG) for group in groups])
        return losses, list(torch.autograd.grad(losses.sum(), leaves, allow_unused=True))

    (alone, expected), (together, found) = outcome([[example] for example in train_set]), outcome([train_set])
    assert torch.allclose(together, alone, rtol=1e-3)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert torch.allclose(ours, theirs, atol=2e-3 * theirs.abs().max().item())


class PaidToPrompt:
    """What soft tokens pay to a prompt, with gradients through every row."""

    def __init__(self, offsets: torch.Tensor) -> None:
        self.offsets, self.layers = offsets, []

    def observe(self, call: AttentionCall) -> None:
        if call.window is None:
            prompt = call.keys.shape[2] - call.queries.shape[2]
            queries = call.queries + self.offsets[call.layer]
            paid = attention_to_prompt(queries, call.keys, call.scaling, prompt, prompt, call.softcap)
            self.layers.append(paid.mean(-2)[0])


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gemma3_text", "mixtral"])
def test_gradients_are_those_of_attention_over_all_rows(make_lm: MakeLM, tmp_path: Path, family: str) -> None:
    lm = make_lm(family)
    example, weights = filled(lm, tmp_path)[0], random_weights(lm)
    recorder = PaidToPrompt(weights.offsets_at(lm, len(example.prompt)))  # type: ignore[arg-type]
    with weights.attached(lm):
        cache = PromptRows(lm, [example]).cache
        lm.model(inputs_embeds=weights.embeddings[None], cache=cache, observer=recorder)
    expected, found = torch.stack(recorder.layers), attention_to_example(lm, weights, example)
    assert torch.allclose(found, expected, atol=1e-6)
    leaves = [weights.embeddings, weights.query_offsets, *weights.adapters.down.values()]  # type: ignore[list-item, union-attr]
    each = (
        torch.autograd.grad(OBJECTIVES["kl"](paid, example.teacher.float(), None, 1.0), leaves, allow_unused=True)
        for paid in (found, expected)
    )
    for ours, theirs in zip(*each, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            assert torch.allclose(ours, theirs, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "granite", "mixtral", "smollm3"])
def test_rows_that_are_read_again_are_those_that_were_stored(make_lm: MakeLM, tmp_path: Path, family: str) -> None:
    lm = make_lm(family)
    weights = random_weights(lm)
    kept, again = filled(lm, tmp_path / "kept"), store(lm, tmp_path / "again", rows=False)
    again.fill(Progress(), Workers(), limit_gb=1)
    with torch.no_grad():
        for ours, theirs in zip(all_of(kept), all_of(again), strict=True):
            assert torch.equal(ours.prompt, theirs.prompt)
            assert torch.equal(ours.teacher, theirs.teacher)
            assert theirs.keys is None
            stored, read = (attention_to_example(lm, weights, example) for example in (ours, theirs))
            # rounding may send a token to another expert, so not every number is near
            assert (stored - read).abs().sum() < 0.01 * stored.sum()


def test_a_run_without_stored_rows_learns_the_same_and_takes_less_room(lm: LanguageModel, tmp_path: Path) -> None:
    log = Log()
    with_rows = train(lm, CONFIG, tmp_path / "with")
    without = train(lm, CONFIG, tmp_path / "without", keep_rows=False, progress=log)
    assert "answers and their attention of 6 prompts take up to" in log.notes[0]
    ours, theirs = (tokens.config.metrics["training_tempered"] for tokens in (without, with_rows))
    assert ours == pytest.approx(theirs, rel=0.01)
    large, small = (
        sum(file.stat().st_size for file in (tmp_path / run / "store").glob("*.safetensors"))
        for run in ("with", "without")
    )
    assert small < 0.3 * large
    log = Log()
    train(lm, CONFIG, tmp_path / "third", store=tmp_path / "without" / "store", progress=log)
    assert ("responses", 6) in log.seen  # it takes them as they are
    assert ("responses", 2) not in log.seen


def test_several_prompts_share_a_pass(lm: LanguageModel) -> None:
    lengths = [300, 10_000, 100, 900, 350, 9_000]
    train_set = [TrainingExample(torch.zeros(size, dtype=torch.long), *[torch.zeros(1)] * 2) for size in lengths]

    def found(device: str, sliding: tuple[int, ...] = ()) -> list[list[int]]:
        sizes = replace(lm.geometry, sliding=sliding)
        model = SimpleNamespace(device=torch.device(device), geometry=sizes, model=lm.model)
        return [[len(example.prompt) for example in group] for group in passes(model, train_set)]  # type: ignore[arg-type]

    assert found("cpu", sliding=(1,)) == found("cuda", sliding=(1,)) == [[size] for size in lengths]
    assert found("cpu") == [[100, 300, 350, 900], [9_000], [10_000]]
    assert found("cuda") == [[100], [300, 350], [900], [9_000], [10_000]]


def test_some_prompts_end_in_the_middle_of_the_answer(lm: LanguageModel, tmp_path: Path) -> None:
    train_set = filled(lm, tmp_path)
    prompts = [example.input_ids(lm)[0] for example in examples(lm)]
    longer = [len(train_set[at].prompt) - len(prompt) for at, prompt in enumerate(prompts)]
    assert min(longer) == 0
    assert 0 < max(longer) <= CONFIG.prefix_tokens
    for at, prompt in enumerate(prompts):
        assert torch.equal(train_set[at].prompt[: len(prompt)], prompt)


def test_a_prompt_ends_before_a_question_that_is_unknown(lm: LanguageModel, tmp_path: Path) -> None:
    train_set = filled(lm, tmp_path, changed(question="unknown"))
    kinds = set()
    for given, found in zip(examples(lm), all_of(train_set), strict=True):
        asked = given.question_last()
        ids = asked.input_ids(lm)[0]
        assert torch.equal(torch.cat([found.prompt, found.response])[: len(ids)], ids)
        read, later = (lm.tokenizer.decode(part) for part in (found.prompt, found.response))
        assert asked.messages[-1].content.endswith(asked.question)
        if asked.document:
            assert read.endswith(asked.document)
            assert later.strip().startswith(asked.question)
        else:
            assert later.startswith(asked.messages[-1].content)
        kinds.add((given == asked, bool(asked.document)))
    assert {(True, True), (False, True)} <= kinds, "the question was last, or first"


def test_a_message_without_a_document_has_no_unknown_question() -> None:
    with pytest.raises(InputError, match="one message without a document of its own"):
        Example((Message("user", "Who?"),), "chat").question_last()
    chat = Example((Message("user", "Hello"), Message("assistant", "Hi"), Message("user", "Who?")), "chat")
    assert chat.question_last() == chat


def test_what_cannot_be_asked_afterwards_stops_a_training_with_a_sentence(lm: LanguageModel, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"messages": [{"role": "user", "content": "Who?"}]}), encoding="utf-8")
    config = changed(question="unknown", data=str(path), examples=1)
    with pytest.raises(InputError, match=r"leave --question at known$"):
        Store(tmp_path / "store", lm, config, JsonLinesSource(path), 1).fill(Progress(), Workers(), limit_gb=1)


def test_a_store_from_before_questions_could_be_unknown_is_gone_on_with(lm: LanguageModel, tmp_path: Path) -> None:
    label = filled(lm, tmp_path).folder / "origin.json"
    said = json.loads(label.read_text(encoding="utf-8"))
    del said["question"]
    label.write_text(json.dumps(said), encoding="utf-8")
    filled(lm, tmp_path)
    with pytest.raises(InputError, match="other data settings"):
        filled(lm, tmp_path, changed(question="unknown"))


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_an_objective_is_least_where_attention_is_equal(name: str) -> None:
    teacher, values = torch.rand(5, 2, 3, 90).mul(8).softmax(-1) * 0.8, torch.ones(5, 2, 90, 16)
    equal = OBJECTIVES[name](teacher, teacher, values, 0.5)
    assert OBJECTIVES[name](teacher.flip(-1), teacher, values, 0.5) > equal + 1e-6
    if "ranking" not in name:
        assert equal.item() == pytest.approx(0, abs=1e-5)


def test_long_values_count_more(lm: LanguageModel) -> None:
    teacher = torch.rand(5, 2, 3, 50).softmax(-1)
    values = torch.ones(5, 2, 50, 16)
    values[:, :, 7] *= 10
    student = teacher.clone().requires_grad_()
    OBJECTIVES["values"](student, teacher, values, 0.5).backward()
    assert student.grad is not None
    assert student.grad.mean((0, 1, 2)).argmin() == 7  # more attention there lowers the loss most


@pytest.mark.parametrize(
    ("objective", "capacity"),
    [(objective, "embeddings") for objective in sorted(OBJECTIVES)]
    + [("tempered", capacity) for capacity in ("offsets", "adapters", "adapters+offsets")],
)
def test_training_lowers_the_loss_and_touches_nothing_else(
    lm: LanguageModel, tmp_path: Path, objective: str, capacity: str
) -> None:
    before = {name: weight.clone() for name, weight in lm.model.named_parameters()}
    config = changed(objective=objective, capacity=capacity, epochs=12, learning_rate=0.02)
    tokens = train(lm, config, tmp_path)
    train_set = store(lm, tmp_path / "store", config)
    initial = initial_tokens(lm, config, train_set).weights

    def loss(weights: SoftTokenTensors) -> float:
        with torch.no_grad():
            return sum(example_losses(lm, weights, [train_set[at]], config).item() for at in range(len(train_set)))

    assert loss(tokens.weights) < (0.97 if objective == "ranking" else 0.9) * loss(initial)
    for name, weight in lm.model.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.grad is None
    assert tokens.config.recipe["objective"] == objective
    assert same(SoftTokens.for_model(lm, tmp_path), tokens)
    assert (tokens.weights.query_offsets is None) == ("offsets" not in capacity)
    assert (tokens.weights.adapters is None) == ("adapters" not in capacity)


def same(ours: SoftTokens, theirs: SoftTokens) -> bool:
    mine, others = ours.tensors(), theirs.tensors()
    return mine.keys() == others.keys() and all(torch.equal(mine[name], others[name]) for name in mine)


@pytest.mark.parametrize(
    ("phase", "at"),
    [("responses", 4), ("held-out responses", 2), ("training", 2), ("training", 5), ("memory tokens", 3)],
)
def test_an_interrupted_run_ends_with_the_same_soft_tokens(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, at: int
) -> None:
    monkeypatch.setattr("judgeq.training.optimization.CHECKPOINT_STEPS", 2)
    config = changed(memory=2, memory_rank=1)
    straight = train(lm, config, tmp_path / "straight")
    with pytest.raises(Stop):
        train(lm, config, tmp_path / "broken", progress=Log(stop=(phase, at)))
    assert not (tmp_path / "broken" / "judgeq_config.json").exists()
    log = Log()
    resumed = train(lm, config, tmp_path / "broken", progress=log)
    assert same(resumed, straight)
    history = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("broken", "straight")]
    assert history[0] == history[1]
    if phase in ("training", "memory tokens"):
        assert (phase, 1) not in log.seen
    else:
        # nothing is computed again
        assert next(entry for entry in log.seen if entry[0] == phase) == (phase, at)


@pytest.mark.parametrize("left", [[0], [5], [0, 1, 7], [3, 4, 8, 11]], ids=str)
def test_what_was_left_of_responses_comes_out_as_in_a_run_without_a_break(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: list[int]
) -> None:
    """Sampled, over several stretches of batches, broken off between batches and in the middle of one."""
    monkeypatch.setattr(stores, "BATCHES_SORTED", 2)
    config = changed(examples=12, temperature=1.0)
    straight = all_of(filled(lm, tmp_path / "straight", config))
    broken = filled(lm, tmp_path / "broken", config)
    changed_at = {at: broken._path(at).stat().st_mtime_ns for at in range(12) if at not in left}
    for at in left:
        broken._path(at).unlink()
    with pytest.raises(Stop):
        store(lm, tmp_path / "broken", config).fill(Log(("responses", 12 - len(left))), Workers(), 1)
    resumed = all_of(filled(lm, tmp_path / "broken", config))
    for ours, theirs in zip(resumed, straight, strict=True):
        assert torch.equal(ours.prompt, theirs.prompt)
        assert torch.equal(ours.response, theirs.response)
        assert torch.equal(ours.teacher, theirs.teacher)
    assert all(broken._path(at).stat().st_mtime_ns == when for at, when in changed_at.items())


def test_a_begun_run_is_not_gone_on_with_by_accident(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("judgeq.training.optimization.CHECKPOINT_STEPS", 2)
    with pytest.raises(Stop):
        train(lm, CONFIG, tmp_path, progress=Log(stop=("training", 5)))
    with pytest.raises(InputError, match="add --resume"):
        train(lm, CONFIG, tmp_path, resume=False)
    with pytest.raises(InputError, match="another recipe"):
        train(lm, changed(temper=0.5), tmp_path)


def test_the_run_is_watched_and_described(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("judgeq.training.train.write_curve", write_curve)
    log = Log()
    tokens = train(lm, CONFIG, tmp_path, progress=log)
    assert "rows of 6 prompts take up to" in log.notes[0]
    history = json.loads((tmp_path / "history.json").read_text())
    measured = [entry for entry in history if "hit_rate_64" in entry]
    assert len(history) == 6
    assert "hit_rate_64" in history[-1]
    assert len(measured) == 6
    assert tokens.config.metrics["held_out_hit_rate_64"] == history[-1]["hit_rate_64"]
    assert f"held_out_hit_rate_64 | {history[-1]['hit_rate_64']}" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<script src" not in (tmp_path / "curve.html").read_text(encoding="utf-8")  # opens offline
    drawn = {trace.name: trace for trace in curve_figure(history).data}
    assert list(drawn["loss"].y) == [entry["loss"] for entry in history]
    assert list(drawn["hit rate, 64 rows"].y) == [entry["hit_rate_64"] for entry in measured]


@pytest.mark.parametrize("start", ["responses", "vocabulary", "random"])
def test_a_run_starts_where_it_is_told(lm: LanguageModel, tmp_path: Path, start: str) -> None:
    train_set = filled(lm, tmp_path)
    first = initial_tokens(lm, changed(start=start), train_set).weights.embeddings
    assert torch.equal(first, initial_tokens(lm, changed(start=start), train_set).weights.embeddings)
    known = lm.model.get_input_embeddings().weight
    said = set(train_set.response_ids(range(6)).tolist())
    drawn = [[at for at, row in enumerate(known) if torch.equal(row, vector)] for vector in first]
    assert all(drawn) == (start != "random")
    assert any(not set(ids) & said for ids in drawn) == (start != "responses")


def test_a_run_goes_on_from_earlier_soft_tokens(lm: LanguageModel, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = train(lm, changed(epochs=6), tmp_path / "first", store=store)
    more = changed(start=str(tmp_path / "first"))
    begun = trainable(initial_tokens(lm, more, filled(lm, store)).weights, lm, more)
    assert begun.tensors().keys() == first.weights.tensors().keys()
    for name, tensor in first.weights.tensors().items():
        assert torch.equal(begun.tensors()[name], tensor)
    second = train(lm, more, tmp_path / "second", store=store)
    losses = [json.loads((tmp_path / run / "history.json").read_text())[0]["loss"] for run in ("first", "second")]
    assert losses[1] < 0.95 * losses[0]
    assert not same(first, second)
    assert second.config.earlier == [first.config.recipe]
    assert second.config.recipe["start"] == "first"
    card = (tmp_path / "second" / "README.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in card
    assert card.index("--out first") < card.index("--start first") < card.index("--out DIR")
    with pytest.raises(InputError, match="--n 4 --rank 2"):
        train(lm, changed(start=str(tmp_path / "first"), n=5), tmp_path / "third")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(("sign", "low", "high"), [(1, 1.0, 1.0), (-1, 0.0, 0.1)])
def test_held_out_hit_rate_is_one_for_a_perfect_student(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: int, low: float, high: float
) -> None:
    monkeypatch.setattr(
        "judgeq.training.trainable.attention_to_example",
        lambda lm, weights, example: sign * example.teacher.float(),
    )
    nothing = SoftTokenTensors(torch.zeros(1))
    found = held_out_hit_rates(lm, nothing, filled(lm, tmp_path), Workers(), (8,))
    assert low <= found["hit_rate_8"] <= high


def test_budgets_go_where_attention_is_spread(lm: LanguageModel, tmp_path: Path) -> None:
    peaked, flat = torch.tensor([0.9, 0.001, 0.001, 0.001]), torch.tensor([0.2, 0.2, 0.2, 0.2])
    shares = best_shares(torch.stack([peaked, flat])[None], budget=2)
    assert shares[0, 1] > 2 * shares[0, 0]
    assert shares.mean().item() == pytest.approx(1)
    profile = learn_profile(filled(lm, tmp_path))
    profile.check(4, 2)
    assert torch.allclose(profile.shares.mean((1, 2)), torch.ones(len(profile.budgets)))


def test_a_store_that_does_not_fit_is_refused(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"--store-gb allows 0\.0001.*about \d+ fit"):
        store(lm, tmp_path).fill(Progress(), Workers(), limit_gb=0.0001)
    with pytest.raises(InputError, match=r"wiki: .* reads at most .*--max-tokens"):
        filled(lm, tmp_path / "long", changed(response_tokens=4090))
    assert not list(tmp_path.rglob("*.safetensors"))
    filled(lm, tmp_path)
    with pytest.raises(InputError, match="another model or other data settings"):
        filled(lm, tmp_path, changed(seed=5))
    monkeypatch.setattr(wiki, "wiki_articles", lambda held_out: ARTICLES[5:30])
    with pytest.raises(InputError, match="another prompt than wiki gives now"):
        filled(lm, tmp_path)


def test_a_store_grows_with_the_number_of_examples(lm: LanguageModel, tmp_path: Path) -> None:
    first = all_of(filled(lm, tmp_path))
    log = Log()
    grown = store(lm, tmp_path, changed(examples=8))
    grown.fill(log, Workers(), limit_gb=1)
    assert log.seen[0] == ("responses", 6)
    assert log.seen[-1] == ("responses", 8)
    assert all(torch.equal(ours.response, theirs.response) for ours, theirs in zip(first, all_of(grown), strict=False))


@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_the_announced_size_is_near_the_real_one(make_lm: MakeLM, tmp_path: Path, family: str) -> None:
    lm = make_lm(family)
    train_set = filled(lm, tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    assert 0.8 * size < train_set.expected_bytes < 1.3 * size


def test_a_store_is_removed_on_request_and_other_files_stay(lm: LanguageModel, tmp_path: Path) -> None:
    train(lm, CONFIG, tmp_path, remove_store=True)
    assert not (tmp_path / "store").exists()
    assert (tmp_path / "judgeq_config.json").exists()
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "thesis.txt").write_text("mine")
    train(lm, CONFIG, tmp_path / "out", store=tmp_path / "rows", remove_store=True)
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_said_and_what_is_finished_stays(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def save(tensors: dict, path: Path) -> None:
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        save_file(tensors, path)

    monkeypatch.setattr("judgeq.training.examples.save_file", save)
    with pytest.raises(InputError, match="free space or choose another --store"):
        filled(lm, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3
    monkeypatch.undo()


def test_a_loss_that_is_no_number_stops_the_run(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "tempered", lambda student, *rest: student.sum() * torch.nan)
    with pytest.raises(JudgeqError, match="smaller --learning-rate"):
        train(lm, CONFIG, tmp_path)
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == CONFIG.examples


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "granite", "mixtral", "smollm3"])
def test_families_with_layers_of_their_own_train(make_lm: MakeLM, tmp_path: Path, family: str) -> None:
    """The first embeddings are what the model's own look like, and the profile leaves sliding layers out."""
    lm = make_lm(family)
    config = changed(capacity="adapters+offsets", epochs=12, accumulate=6)
    tokens = train(lm, config, tmp_path)
    history = json.loads((tmp_path / "history.json").read_text())
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]
    first = initial_tokens(lm, config, store(lm, tmp_path / "store", config)).weights.embeddings
    known = lm.model.get_input_embeddings()(torch.arange(300))
    assert all((known == row).all(-1).any() for row in first)
    assert tokens.profile is not None
    tokens.profile.check(len(lm.geometry.global_layers), 2)
    plan = Plan(JudgeQ(selection=Selection(allocation="profile")), 9, tokens.profile)
    kept = prefill(lm, torch.randint(3, 300, (1, 60)), [plan], soft_tokens=tokens.weights).retained[0].kept
    rows = [len(head) for layer in kept if layer is not None for head in layer]
    assert sum(rows) == 9 * 2 * len(lm.geometry.global_layers)


def test_a_model_that_never_evicts_is_not_trained(make_lm: MakeLM, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="sees only the last 24 tokens"):
        train(make_lm("mistral", sliding_window=24), CONFIG, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_in_bfloat16_trains(make_lm: MakeLM, tmp_path: Path) -> None:
    lm = make_lm()
    lm.model.to(torch.bfloat16)
    history = trained_history(lm, tmp_path)
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]


def test_a_model_in_4_bit_trains(make_lm: MakeLM, tmp_path: Path) -> None:
    """Gradients flow through a frozen NF4 base."""
    make_lm(intermediate_size=128).model.save_pretrained(tmp_path / "model")
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path / "model", quantization_config=config, attn_implementation=ATTENTION
    )
    lm = LanguageModel.wrap(model, make_lm().tokenizer, name="tiny-4bit")
    history = trained_history(lm, tmp_path / "out")
    assert history[-1]["loss"] < 0.9 * history[0]["loss"]


def test_4_bit_weights_that_were_repacked_are_refused(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    linear = next(module for module in lm.model.modules() if isinstance(module, torch.nn.Linear))
    monkeypatch.setattr(linear, "support_avx512bf16_for_cpu", True, raising=False)
    state = type("State", (), {"packing_format_for_cpu": True})
    monkeypatch.setattr(linear.weight, "quant_state", state, raising=False)
    with pytest.raises(InputError, match="load the model anew"):
        let_gradients_through(lm)


def trained_history(lm: LanguageModel, out: Path) -> list[dict[str, float]]:
    train(lm, changed(epochs=12, accumulate=6), out)
    return json.loads((out / "history.json").read_text())


@pytest.mark.parametrize("store", ["out", "out/rows", "elsewhere"])
def test_a_store_may_lie_in_the_runs_folder_and_a_second_run_takes_the_place_of_the_first(
    lm: LanguageModel, tmp_path: Path, store: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitattributes").write_text("mine")
    for _ in range(2):
        train(lm, CONFIG, tmp_path / "out", store=tmp_path / store)
        assert SoftTokens.from_pretrained(tmp_path / "out").n == CONFIG.n
    assert (tmp_path / "out" / ".gitattributes").read_text() == "mine"


def test_examples_of_others_are_neither_replaced_nor_removed(lm: LanguageModel, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name in ("origin.json", "000000.safetensors"):
        (tmp_path / "rows" / name).write_text("mine")
        with pytest.raises(InputError, match="judgeq has not written"):
            train(lm, CONFIG, tmp_path / "out", store=tmp_path / "rows", remove_store=True)
        assert (tmp_path / "rows" / name).read_text() == "mine"
        (tmp_path / "rows" / name).unlink()
    assert not (tmp_path / "out").exists()
