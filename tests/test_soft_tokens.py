"""The trained artefact: a safe file that is refused where it does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from judgeq.documents.document import Document
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.soft_tokens.model_card import model_card
from judgeq.soft_tokens.soft_tokens import CONFIG_FILE, TENSOR_FILE, SoftTokens
from judgeq.soft_tokens.tensors import TENSOR_NAME, SoftTokenTensors
from tests.fixtures import TEXT, MakeLM


@pytest.fixture
def tokens(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.arange(10, 18))


def test_they_start_as_embeddings_of_tokens(lm: LanguageModel, tokens: SoftTokens) -> None:
    assert torch.equal(tokens.weights.embeddings, lm.model.get_input_embeddings().weight[10:18])
    assert tokens.n == 8


def test_saving_and_loading_gives_the_same(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    tokens.save_pretrained(tmp_path / "judge")
    again = SoftTokens.for_model(lm, tmp_path / "judge")
    assert torch.equal(again.weights.embeddings, tokens.weights.embeddings)
    assert again.config == tokens.config
    assert "base_model: tiny-llama" in (tmp_path / "judge" / "README.md").read_text()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("base_model", "other-model", "base model"), ("tokenizer_hash", "0" * 16, "tokenizer 0{16} there")],
)
def test_another_model_is_refused(lm: LanguageModel, tokens: SoftTokens, field: str, value: str, said: str) -> None:
    other = SoftTokens(tokens.weights, dataclasses.replace(tokens.config, **{field: value}))
    with pytest.raises(InputError, match=said):
        other.check(lm)


def test_another_width_is_refused(lm: LanguageModel, tokens: SoftTokens) -> None:
    config = dataclasses.replace(tokens.config, hidden_size=32)
    with pytest.raises(InputError, match="hidden size 32"):
        SoftTokens(SoftTokenTensors(tokens.weights.embeddings[:, :32]), config).check(lm)


def test_nan_is_refused(tokens: SoftTokens) -> None:
    with pytest.raises(InputError, match="NaN"):
        SoftTokens(SoftTokenTensors(tokens.weights.embeddings * torch.nan), tokens.config)


def renamed(lm: LanguageModel, name: str) -> LanguageModel:
    return dataclasses.replace(lm, name=name)


@pytest.mark.parametrize(
    "name",
    [
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "smollm2-135m",
        "./SmolLM2-135M-Instruct",
        "/models/smollm2-135m-instruct/",
        "unsloth/SmolLM2-135M-Instruct",
        "downloads/SmolLM2-135M-Instruct.Q4_1.gguf",
        "SmolLM2-135M-Instruct-bf16.gguf",
    ],
)
def test_one_model_has_many_names(lm: LanguageModel, tokens: SoftTokens, name: str) -> None:
    for trained in ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "models/SmolLM2-135M-Instruct"):
        SoftTokens(tokens.weights, dataclasses.replace(tokens.config, base_model=trained)).check(renamed(lm, name))


@pytest.mark.parametrize(
    "name", ["HuggingFaceTB/SmolLM2-135M", "SmolLM2-360M-Instruct", "SmolLM2-135M-Instruct-v2", "smollm2"]
)
def test_a_sibling_is_another_model(lm: LanguageModel, tokens: SoftTokens, name: str) -> None:
    config = dataclasses.replace(tokens.config, base_model="smollm2-135m")
    with pytest.raises(InputError, match=f"trained for smollm2-135m and the base model here is {name}"):
        SoftTokens(tokens.weights, config).check(renamed(lm, name))


def test_the_same_model_under_another_name_can_be_adopted(
    lm: LanguageModel, tokens: SoftTokens, make_lm: MakeLM
) -> None:
    elsewhere = renamed(lm, "/models/snapshot-7")
    with pytest.raises(InputError, match=r"tokens\.adopt\(lm\)"):
        tokens.check(elsewhere)
    adopted = tokens.adopt(elsewhere)
    adopted.check(elsewhere)
    assert torch.equal(adopted.weights.embeddings, tokens.weights.embeddings)
    with pytest.raises(InputError, match="hidden size 64 there, 32 here"):
        tokens.adopt(make_lm(hidden_size=32))


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"quantization": "4bit"}], ids=str)
def test_number_types_and_quantization_do_not_count(
    tmp_path: Path, lm: LanguageModel, tokens: SoftTokens, options: dict[str, str]
) -> None:
    lm.model.save_pretrained(tmp_path / lm.name)
    lm.tokenizer.save_pretrained(tmp_path / lm.name)
    tokens.check(load(tmp_path / lm.name, **options))


def test_shipped_soft_tokens_are_found_under_every_name_of_their_model(
    lm: LanguageModel, tokens: SoftTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(tokens.config, base_model="smollm2-135m")
    SoftTokens(tokens.weights, config).save_pretrained(tmp_path / "soft_tokens" / "any-name")
    monkeypatch.setattr("judgeq.soft_tokens.soft_tokens.assets_path", tmp_path.joinpath)
    for name in ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct", "./SmolLM2-135M-Instruct"):
        assert SoftTokens.for_model(renamed(lm, name)).config == config


def test_of_shipped_soft_tokens_those_for_the_case_are_taken(
    lm: LanguageModel, tokens: SoftTokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("judgeq.soft_tokens.soft_tokens.assets_path", tmp_path.joinpath)
    folder, other = tmp_path / "soft_tokens", SoftTokens.initialise(lm, torch.arange(30, 38))
    found = {}
    for question, own in (("unknown", tokens), ("known", other)):
        config = dataclasses.replace(own.config, recipe={"question": question})
        SoftTokens(own.weights, config).save_pretrained(folder / f"a-{question}")
        found[question] = [SoftTokens.for_model(lm, question=each).config.question for each in ("known", "unknown")]
    assert found == {"unknown": ["unknown", "unknown"], "known": ["known", "unknown"]}
    named = (None, folder / "a-unknown", folder / "a-known")
    shipped, same, another = (Document(lm, TEXT).compress(budget=20, tokens=each).retained.kept for each in named)
    assert all(map(torch.equal, shipped, same))
    assert not all(map(torch.equal, shipped, another))


def test_the_card_shows_what_they_were_trained_for(tokens: SoftTokens) -> None:
    for question, shown in (("known", "judgeq.ask(lm, document"), ("unknown", ".compress(tokens=tokens")):
        card = model_card(dataclasses.replace(tokens.config, recipe={"question": question}), "DIR")
        assert shown in card
        assert ("--query-agnostic" in card) == (question == "unknown")


def test_damaged_tensors_are_refused_with_a_sentence(tokens: SoftTokens, tmp_path: Path) -> None:
    file = tokens.save_pretrained(tmp_path) / TENSOR_FILE
    whole = file.read_bytes()
    for damage in (whole[:40], whole[:-8], b"not a tensor file", b""):
        file.write_bytes(damage)
        with pytest.raises(InputError, match="readable soft tokens"):
            SoftTokens.from_pretrained(tmp_path)
    for tensors, said in (
        ({"model.weight": torch.ones(2)}, r"no tensor soft_tokens but model\.weight"),
        ({TENSOR_NAME: torch.ones(2, 2)}, r"shape \(2, 2\) and their config says \(8, 64\)"),
        ({TENSOR_NAME: torch.full((8, 64), torch.inf)}, "NaN or infinite"),
        ({TENSOR_NAME: torch.ones(8, 64), "adapter_down.0.q": torch.ones(2)}, r"Half of the adapter 0\.q"),
    ):
        save_file(tensors, file)
        with pytest.raises(InputError, match=said):
            SoftTokens.from_pretrained(tmp_path)
    file.unlink()
    with pytest.raises(InputError, match="readable soft tokens"):
        SoftTokens.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("{", "readable soft tokens"),
        ("[]", "is not a JSON object"),
        (
            {"wings": 2, "judgeq_version": "9.1"},
            r"of judgeq 9\.1 has the field wings, which this .* update judgeq",
        ),
        ({"n": None}, "lacks the field n"),
        ({"n": 9}, r"config says \(9, 64\)"),
        ({"n": "8"}, "n is '8'"),
        ({"base_model": 7}, "base_model is 7; give a text"),
        ({"recipe": "wiki"}, "recipe is 'wiki'"),
    ],
)
def test_configs_that_say_something_else_are_refused_with_a_sentence(
    tokens: SoftTokens, tmp_path: Path, changes: str | dict[str, Any], said: str
) -> None:
    file = tokens.save_pretrained(tmp_path) / CONFIG_FILE
    if isinstance(changes, dict):
        values = {**json.loads(file.read_text()), **changes}
        changes = json.dumps({name: value for name, value in values.items() if value is not None})
    file.write_text(changes)
    with pytest.raises(InputError, match=said):
        SoftTokens.from_pretrained(tmp_path)


def test_other_folders_and_files_are_told_apart(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    lm.model.save_pretrained(tmp_path / "model")
    (tmp_path / "empty").mkdir()
    judge = tokens.save_pretrained(tmp_path / "judge")
    for name, said in (
        ("model", "is a model and not soft tokens"),
        ("empty", f"has no {CONFIG_FILE}"),
        (f"judge/{TENSOR_FILE}", "is a file: name the folder"),
    ):
        with pytest.raises(InputError, match=said):
            SoftTokens.from_pretrained(tmp_path / name)
    with pytest.raises(InputError, match="belongs to the Hub"):
        SoftTokens.from_pretrained(judge, revision="v2")


def test_a_model_without_shipped_tokens_says_how_to_get_some(lm: LanguageModel) -> None:
    with pytest.raises(InputError, match="judgeq train --model tiny-llama"):
        SoftTokens.for_model(lm)


def test_a_name_that_is_nowhere_is_refused(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name, said in (
        ("nobody/nothing", "reachable"),
        ("not a name at all!", "a valid id"),
        ("./no/dir", "a valid id"),
    ):
        with pytest.raises(InputError, match=f"neither a folder here nor {said}"):
            SoftTokens.from_pretrained(name)


def test_query_offsets_are_part_of_the_file(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    weights = SoftTokenTensors(tokens.weights.embeddings, torch.randn(4, 4, 8, 16))
    SoftTokens(weights, tokens.config).save_pretrained(tmp_path)
    again = SoftTokens.for_model(lm, tmp_path).weights.query_offsets
    assert again is not None
    assert torch.equal(again, weights.query_offsets.half().float())
    with pytest.raises(InputError, match=r"query offsets have shape \(3, 4, 8, 16\)"):
        SoftTokens(SoftTokenTensors(weights.embeddings, torch.randn(3, 4, 8, 16)), tokens.config).check(lm)
