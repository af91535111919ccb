"""The trained artefact: a safe file that is refused where it does not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from judgeq.errors import InputError
from judgeq.language_model import LanguageModel
from judgeq.probe import Probe
from judgeq.soft_tokens import CONFIG_FILE, TENSOR_FILE, SoftTokens


@pytest.fixture
def tokens(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.arange(10, 18))


def test_they_start_as_embeddings_of_tokens(lm: LanguageModel, tokens: SoftTokens) -> None:
    assert torch.equal(tokens.probe.embeddings, lm.model.get_input_embeddings().weight[10:18])
    assert tokens.n == 8


def test_saving_and_loading_gives_the_same(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    tokens.save_pretrained(tmp_path / "judge")
    again = SoftTokens.for_model(lm, tmp_path / "judge")
    assert torch.equal(again.probe.embeddings, tokens.probe.embeddings)
    assert again.config == tokens.config
    assert "base_model: tiny-llama" in (tmp_path / "judge" / "README.md").read_text()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("base_model", "other-model", "base model"), ("tokenizer_hash", "0" * 16, "tokenizer")],
)
def test_another_model_is_refused(
    lm: LanguageModel, tokens: SoftTokens, field: str, value: str, said: str
) -> None:
    other = SoftTokens(tokens.probe, dataclasses.replace(tokens.config, **{field: value}))
    with pytest.raises(InputError, match=said):
        other.check(lm)


def test_another_width_is_refused(lm: LanguageModel, tokens: SoftTokens) -> None:
    config = dataclasses.replace(tokens.config, hidden_size=32)
    with pytest.raises(InputError, match="hidden size 32"):
        SoftTokens(Probe(tokens.probe.embeddings[:, :32]), config).check(lm)


def test_nan_is_refused(tokens: SoftTokens) -> None:
    with pytest.raises(InputError, match="NaN"):
        SoftTokens(Probe(tokens.probe.embeddings * torch.nan), tokens.config)


def test_damaged_folders_are_refused_with_a_sentence(
    lm: LanguageModel, tokens: SoftTokens, tmp_path: Path
) -> None:
    folder = tokens.save_pretrained(tmp_path / "judge")
    whole = (folder / TENSOR_FILE).read_bytes()
    for damage in (whole[:40], b"not a tensor file", b""):
        (folder / TENSOR_FILE).write_bytes(damage)
        with pytest.raises(InputError, match="readable soft tokens"):
            SoftTokens.from_pretrained(folder)
    (folder / TENSOR_FILE).write_bytes(whole)
    save_file({"other": torch.ones(2)}, folder / TENSOR_FILE)
    with pytest.raises(InputError, match="readable soft tokens"):
        SoftTokens.from_pretrained(folder)
    (folder / TENSOR_FILE).write_bytes(whole)
    config = json.loads((folder / CONFIG_FILE).read_text())
    for text in (
        "{",
        "[]",
        json.dumps({**config, "extra": 1}),
        json.dumps({"n": 8}),
        json.dumps({**config, "n": 9}),
    ):
        (folder / CONFIG_FILE).write_text(text)
        with pytest.raises(InputError):
            SoftTokens.from_pretrained(folder)


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
    probe = Probe(tokens.probe.embeddings, torch.randn(4, 4, 8, 16))
    SoftTokens(probe, tokens.config).save_pretrained(tmp_path)
    again = SoftTokens.for_model(lm, tmp_path).probe.query_offsets
    assert again is not None
    assert torch.equal(again, probe.query_offsets.half().float())
    with pytest.raises(InputError, match=r"query offsets have shape \(3, 4, 8, 16\)"):
        SoftTokens(Probe(probe.embeddings, torch.randn(3, 4, 8, 16)), tokens.config).check(lm)
