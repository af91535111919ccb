"""The experiment with memory tokens: its commands run on a tiny model, and its scores are those of the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import judgeq
from judgeq.data import chains, records, wiki
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods.parsing import method_from_text
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.config import CONFIG_FILE, SoftTokensConfig
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.training.examples import PromptRows, TrainingExample
from judgeq.training.trainable import attention_to_examples
from scripts import distill
from tests.code_blocks import ROOT, code
from tests.fixtures import build_model, build_tokenizer
from tests.test_training import ARTICLES

EXPERIMENT = ROOT / "assets/experiments/memory_rows"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and soft tokens for it whose offsets and adapters do something."""
    folder = tmp_path_factory.mktemp("distill")
    build_model().save_pretrained(folder / "model")
    build_tokenizer().save_pretrained(folder / "model")
    lm = judgeq.load(str(folder / "model"), device="cpu")
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return 0.2 * torch.randn(shape, generator=generator)

    adapters = LowRank.zero(lm, rank=distill.RANK, seed=0).map(lambda tensor: tensor + drawn(*tensor.shape))
    sizes = lm.geometry
    embeddings = drawn(distill.S, sizes.hidden)
    offsets = 5 * drawn(sizes.layers, sizes.heads, distill.S, sizes.head_dim)
    weights = SoftTokenTensors(embeddings, offsets, adapters)
    (folder / "start").mkdir()
    save_file(weights.tensors(), folder / "start" / "soft_tokens.safetensors")
    config = SoftTokensConfig(lm.name, sizes.hidden, distill.S, lm.tokenizer_hash, recipe={"seed": 3})
    config.save(folder / "start" / CONFIG_FILE)
    return folder


@pytest.fixture
def small_corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (wiki, records, chains):
        monkeypatch.setattr(module, "wiki_articles", lambda held_out: ARTICLES[held_out::2])


def random_prompts(*lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 300, (length,), generator=generator) for length in lengths]


def tiny(folder: Path) -> object:
    return distill.load_model(folder / "model", "cpu", torch.float32)


def lesson_of(model: object, folder: Path, ids: list[Tensor], responses: list[Tensor]) -> object:
    kinds = {"kinds": torch.zeros(len(ids), dtype=torch.uint8)}
    save_file(distill.packed(ids) | kinds, folder / "p", metadata={"kinds": "a"})
    save_file(distill.packed(responses), folder / "r")
    corpus = distill.Corpus(folder / "p", folder / "r")
    return distill.TrainingExample(model, corpus, list(range(len(ids))))


@pytest.mark.usefixtures("small_corpus")
def test_the_commands_follow_each_other(folder: Path, tmp_path: Path) -> None:
    model, data = str(folder / "model"), "wiki:1,records:1,chains:1"
    names = [str(tmp_path / f"{name}.safetensors") for name in ("prompts", "held", "responses", "held_responses")]
    prompts, held, responses, held_responses = names
    for part, count, out in (("train", 12, prompts), ("held_out", 4, held)):
        sizes = f"--min-tokens 60 --max-tokens 120 --count {count} --data {data} --part {part}"
        distill.main(["prompts", "--model", model, "--out", out, *sizes.split()])
    common = ["--model", model, "--dtype", "float32", "--tokens", "3000"]
    for given, out in ((prompts, responses), (held, held_responses)):
        distill.main(["respond", *common, "--prompts", given, "--out", out])
    told = ["--held-out", held, "--held-out-responses", held_responses, "--start", str(folder / "start")]
    out = tmp_path / "trained"
    steps = ["--steps", "2", "--seconds", "inf", "--out", str(out)]
    distill.main(["train", *common, "--prompts", prompts, "--responses", responses, *told, *steps])

    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["steps"] == len(record["history"]) == 2
    assert set(record["held_out"]) == {form.name for form in distill.WHOLE}
    assert set(record["before"]) == {"mean", "largest"}
    before, after = (load_file(path / "soft_tokens.safetensors") for path in (folder / "start", out))
    assert not torch.equal(before["soft_tokens"], after["soft_tokens"])
    assert after["memory_tokens"].shape == (16, 64)
    tokens = judgeq.SoftTokens.for_model(judgeq.load(model, device="cpu"), out)
    assert (tokens.config.memory, tokens.config.recipe) == (16, {})
    assert tokens.config.earlier == [{"seed": 3}]
    again = distill.Judge(out)
    assert torch.equal(again.memory, after["memory_tokens"])
    assert len(again.maps) == len(after) - 3


def test_scores_are_those_of_the_library(folder: Path) -> None:
    """The mean over soft tokens and group, whatever the memory tokens are and however prompts are padded."""
    ids = random_prompts(40, 73, 55)
    lm = judgeq.load(str(folder / "model"), device="cpu")
    weights = SoftTokenTensors.from_tensors(load_file(folder / "start" / "soft_tokens.safetensors"))
    nothing = torch.zeros(0)
    examples = [TrainingExample(prompt, nothing, nothing) for prompt in ids]
    with torch.no_grad():
        expected = attention_to_examples(lm, weights, examples, [PromptRows(lm, examples)])
        model = tiny(folder)
        judge = distill.Judge(folder / "start")
        judge.memory.data.normal_(generator=torch.Generator().manual_seed(2))
        asked = judge.ask(model, distill.Prompts(model, ids))
    for at, (prompt, theirs) in enumerate(zip(ids, expected, strict=True)):
        ours = torch.stack([layer[at] for layer in asked.mean])
        assert torch.allclose(ours[..., : len(prompt)], theirs.mean(-2), atol=1e-6)
        assert not ours[..., len(prompt) :].any()


@pytest.mark.parametrize(("budget", "used"), [(24, 0), (24, 4), (32, 16)])
def test_memory_rows_are_those_of_the_library(folder: Path, tmp_path: Path, budget: int, used: int) -> None:
    """The same rows are kept, and the same answer follows from them."""
    ids, responses = random_prompts(60, 85), random_prompts(9, 14)
    model, judge = tiny(folder), distill.Judge(folder / "start")
    maps = [own for name, own in judge.maps.items() if "memory" in name]
    for at, tensor in enumerate([judge.memory, *maps]):
        drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(at))
        tensor.data.copy_((0.2 * drawn).half())
    judge.save(tmp_path / "judge", {})
    lesson = lesson_of(model, tmp_path, ids, responses)
    with torch.no_grad():
        asked = judge.ask(model, lesson.prompts)
        padding = lesson.prompts.hidden[:, None]
        biases = [distill.hard_bias(scores + padding, budget - used, width=1) for scores in asked.mean]
        expected = lesson.log_probs(model, distill.Answer(lesson.prompts, biases, asked.memory, used))

    lm = judgeq.load(str(folder / "model"), device="cpu")
    weights = SoftTokenTensors.from_tensors(load_file(tmp_path / "judge" / "soft_tokens.safetensors"))
    plan = Plan(method_from_text(f"judgeq:pool=1:unit=row:memory={used}"), budget)
    theirs = iter(expected.split([len(response) - 1 for response in responses]))
    for at, (prompt, response) in enumerate(zip(ids, responses, strict=True)):
        retained = prefill(lm, prompt[None], [plan], soft_tokens=weights).retained[0]
        kept = [bias[at, :, : len(prompt)].isfinite().nonzero()[:, 1].view(1, 2, -1) for bias in biases]
        assert all(torch.equal(*layers) for layers in zip(retained.kept, kept, strict=True))
        ours = lm.model(response[None, :-1], cache=retained.cache, use_cache=True).logits[0].log_softmax(-1)
        assert torch.allclose(ours, next(theirs), atol=1e-4)


def test_a_response_is_the_models_own_greedy_one(folder: Path) -> None:
    ids = random_prompts(31, 50)
    reference = build_model()
    found = distill.respond(tiny(folder), ids, end=2)
    for prompt, response in zip(ids, found, strict=True):
        options = {"max_new_tokens": distill.RESPONSE, "do_sample": False}
        written = reference.generate(prompt[None], attention_mask=torch.ones_like(prompt[None]), **options)
        assert response.tolist() == written[0, len(prompt) :].tolist()


def test_an_answer_over_every_row_is_the_full_caches(folder: Path, tmp_path: Path) -> None:
    ids, responses = random_prompts(40, 60), random_prompts(9, 14)
    model = tiny(folder)
    lesson = lesson_of(model, tmp_path, ids, responses)
    with torch.no_grad():
        asked = distill.Judge(folder / "start").ask(model, lesson.prompts)
        divergences = []
        for rows in (60, 8):
            biases = [distill.hard_bias(scores, rows) for scores in asked.largest]
            student = lesson.log_probs(model, distill.Answer(lesson.prompts, biases))
            divergences.append(lesson.divergence(student).max())
        assert divergences[0] < 1e-5 < 1e-3 < divergences[1]
        reference = build_model()(torch.cat([ids[0], responses[0]])[None]).logits[0, 40:-1].log_softmax(-1)
    assert torch.allclose(lesson.teacher[:8], reference, atol=1e-4)


def test_a_batch_keeps_no_padding_and_no_more_rows_than_the_budget(folder: Path) -> None:
    """Sharply or softly: pooling does not lift what stands after a prompt, and probabilities sum to the budget."""
    model, lengths, rows = tiny(folder), (40, 73, 55), 12
    prompts = distill.Prompts(model, random_prompts(*lengths))
    judge = distill.Judge(folder / "start")
    for scores in judge.ask(model, prompts).largest:
        seen = scores + prompts.hidden[:, None]
        hard, soft = distill.hard_bias(seen.detach(), rows), distill.soft_bias(seen, rows, 0.3)
        for at, length in enumerate(lengths):
            assert hard[at, :, :length].isfinite().sum(-1).eq(rows).all()
            assert soft[at, :, :length].exp().sum(-1).sub(rows).abs().max() < 0.02
            assert hard[at, :, length:].isinf().all()
            assert soft[at, :, length:].exp().lt(1e-6).all()
        weights = torch.randn(soft.shape, generator=torch.Generator().manual_seed(3))
        (soft.exp() * weights * prompts.hidden[:, None].isfinite()).sum().backward(retain_graph=True)
    assert all(tensor.grad is None or tensor.grad.isfinite().all() for tensor in judge.parameters())
    assert judge.embeddings.grad.abs().sum() > 0


def test_shipped_soft_tokens_and_stored_responses_can_be_gone_on_from() -> None:
    shipped = ROOT / "assets/soft_tokens/smollm2-135m"
    judge = distill.Judge(shipped, memory=8)
    assert judge.memory.shape == (8, 576)
    assert len(judge.names) == 210
    more = distill.Judge(shipped, memory=16)
    assert torch.equal(more.memory, more.embeddings[:16]), "new ones, where there are not as many"
    assert len(distill.unpacked(load_file(EXPERIMENT / "responses.safetensors"))) == 8192
    assert len(distill.unpacked(load_file(EXPERIMENT / "held_out_responses.safetensors"))) == 256


def test_the_commands_of_the_experiment_are_understood() -> None:
    lines = [
        line
        for block in code("assets/experiments/memory_rows/README.md", "sh")
        for line in block.text.splitlines()
        if "scripts.distill" in line
    ]
    assert {distill.parse(line.split()[3:]).what for line in lines} == {"prompts", "all", "train", "merge"}
