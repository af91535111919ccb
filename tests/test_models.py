"""From a name to a model: what loads, what it then is, and what is refused with which sentence."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertLMHeadModel,
    BloomConfig,
    Cohere2Config,
    DeepseekV3Config,
    Gemma3Config,
    Gemma3nTextConfig,
    GPT2Config,
    GptOssConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MambaConfig,
    Olmo3Config,
    Qwen3NextConfig,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.models.llama import modeling_llama

import judgeq.models.supported
from judgeq.attention.registry import ATTENTION
from judgeq.errors import ModelError
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import JudgeQ
from judgeq.models.hub_download import HubError
from judgeq.models.language_model import Geometry, LanguageModel
from judgeq.models.loading import load
from judgeq.soft_tokens.adapters import LowRank
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.fixtures import CONFIGS, GLOBAL, SLIDING, WINDOW, build_model, build_tokenizer
from tests.hub import Hub, Repository
from tests.loading import refusal


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), encoding="utf-8")


# -- what a loaded model is -------------------------------------------------------------------------------


def test_geometry_of_every_family(each_lm: LanguageModel) -> None:
    sizes = Geometry(layers=4, heads=4, kv_heads=2, head_dim=16, hidden=64, max_positions=4096)
    if each_lm.name in ("tiny-gemma2", "tiny-gemma3_text"):
        sizes = replace(sizes, sliding=(0, 2), window=WINDOW)
        assert sizes.global_layers == [1, 3]
    assert each_lm.geometry == sizes


def test_kv_heads_default_to_heads() -> None:
    assert Geometry.of(GPT2Config(n_embd=64, n_head=4, n_layer=2, n_positions=32)) == Geometry(2, 4, 4, 16, 64, 32)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_folder_loads_ready_to_use(family: str, tmp_path: Path) -> None:
    original = build_model(family).eval()
    original.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    lm = load(tmp_path, device="cpu")
    assert lm.name == str(tmp_path)
    assert lm.revision is None
    assert (lm.device, lm.dtype) == (torch.device("cpu"), torch.float32)
    assert lm.model.config._attn_implementation == ATTENTION
    assert not lm.model.training
    assert not any(parameter.requires_grad for parameter in lm.model.parameters())
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        assert torch.allclose(lm.model(ids).logits, original(ids).logits, atol=1e-5)


def test_a_wrapped_model_keeps_its_output(tokenizer: Any) -> None:
    model = build_model("qwen3").eval()
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        before = model(ids).logits
        after = LanguageModel.wrap(model, tokenizer).model(ids).logits
    assert model.config._attn_implementation == ATTENTION
    assert torch.allclose(before, after, atol=1e-5)


def test_loading_draws_no_progress_bars(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(folder)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_every_end_token_ends_an_answer(make_lm: Any) -> None:
    lm = make_lm()
    lm.model.generation_config.eos_token_id = [5, 7]
    assert lm.eos_ids == {5, 7, lm.tokenizer.eos_token_id}
    bare = make_lm(seed=1)
    bare.model.generation_config.eos_token_id = None
    assert bare.eos_ids == {bare.tokenizer.eos_token_id}


def test_the_tokenizer_hash_tells_tokenizers_apart(make_lm: Any) -> None:
    lm, same, other = make_lm(), make_lm("qwen2", seed=5), make_lm()
    same.tokenizer(["a", "long text"], padding=True, truncation=True, max_length=4)  # leaves traces in it
    other.tokenizer.chat_template += " "
    assert lm.tokenizer_hash == same.tokenizer_hash != other.tokenizer_hash
    grown = make_lm()
    grown.tokenizer.add_tokens(["harbourmaster"])
    assert grown.tokenizer_hash != lm.tokenizer_hash


def test_dtypes_are_taken_by_name_and_by_value(folder: Path) -> None:
    assert load(folder, dtype="bfloat16").dtype == torch.bfloat16
    assert load(folder, dtype=torch.float16).dtype == torch.float16


@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_fewer_bits_take_less_memory_and_say_nearly_the_same(quantization: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    build_model(intermediate_size=128).save_pretrained(tmp_path)  # blocks of 64 weights share a scale
    build_tokenizer().save_pretrained(tmp_path)
    full, small = load(tmp_path, device="cpu"), load(tmp_path, device="cpu", quantization=quantization)
    assert small.model.get_memory_footprint() < 0.6 * full.model.get_memory_footprint()
    assert small.dtype == torch.float32
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        a, b = full.model(ids).logits.flatten(), small.model(ids).logits.flatten()
    assert torch.cosine_similarity(a, b, dim=0) > 0.7


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_weights_have_sixteen_bits(folder: Path) -> None:
    lm = load(folder)
    assert (lm.device.type, lm.dtype) == ("cuda", torch.bfloat16)


@pytest.mark.embedded
def test_the_embedded_model_is_what_it_says(smol: LanguageModel) -> None:
    assert smol.name == "smollm2-135m"
    assert smol.revision
    assert smol.geometry == Geometry(layers=30, heads=9, kv_heads=3, head_dim=64, hidden=576, max_positions=8192)
    assert smol.tokenizer.eos_token == "<|im_end|>"
    assert smol.eos_ids == {smol.tokenizer.eos_token_id}


def test_importing_judgeq_loads_no_torch() -> None:
    program = "import sys, judgeq; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])


# -- names and arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["smollm", "/no/such/folder", "./missing", "a/b/c", "~/nowhere"])
def test_an_unknown_name_says_what_a_name_can_be(name: str) -> None:
    message = refusal(name)
    assert name in message
    assert "smollm2-135m" in message
    assert "org/name" in message


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "missing.gguf" in refusal("org/missing.gguf")
    assert "config.json" in refusal(tmp_path)
    (tmp_path / "broken.gguf").write_bytes(b"no GGUF at all")
    assert "broken.gguf cannot be loaded" in refusal(tmp_path / "broken.gguf")
    assert "4bit" in refusal(tmp_path / "broken.gguf", quantization="4bit")


def test_arguments_that_mean_nothing(folder: Path) -> None:
    assert "8bit or 4bit" in refusal(folder, quantization="3bit")
    assert "float32" in refusal(folder, dtype="float8")
    assert "cpu, cuda or balanced" in refusal(folder, device="gpu")
    assert "revision" in refusal(folder, revision="main")
    assert "revision" in refusal("smollm2-135m", revision="main")
    if not torch.cuda.is_available():
        assert "no CUDA device" in refusal(folder, device="cuda")


def test_quantization_without_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgeq.models.supported.importlib.util, "find_spec", lambda name: None)
    assert "pip install bitsandbytes" in refusal(folder, quantization="4bit")


class Given:
    """Stands for transformers' loader: remembers what it is asked, and gives a model or an error."""

    def __init__(self, model: Any = None, error: Exception | None = None) -> None:
        self.model, self.error, self.asked = model, error, {}

    def from_pretrained(self, **asked: Any) -> Any:
        self.asked = asked
        if self.error:
            raise self.error
        return self.model, {"missing_keys": []}


def test_layers_are_spread_over_several_gpus_on_request(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Given(build_model())
    monkeypatch.setattr("transformers.AutoModelForCausalLM", given)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    lm = load(folder, device="balanced")
    assert given.asked["device_map"] == "balanced"
    assert given.asked["dtype"] == torch.bfloat16
    assert lm.model is given.model
    load(folder, device="cuda:1", quantization="4bit")
    assert given.asked["device_map"] == {"": torch.device("cuda:1")}
    assert "cuda:1 or auto" in refusal(folder, device="cuda:7")
    monkeypatch.undo()
    if not torch.cuda.is_available():
        assert "no CUDA device" in refusal(folder, device="balanced")


def test_too_little_memory_says_what_takes_less(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.AutoModelForCausalLM", Given(error=torch.OutOfMemoryError("CUDA")))
    message = refusal(folder, device="cpu")
    assert "4bit" in message
    assert "balanced" in message


# -- folders that are not right ---------------------------------------------------------------------------


def test_weights_that_are_cut_short(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot be loaded" in refusal(copy)


def test_weights_of_which_some_are_missing(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.2.self_attn.k_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert "lacks 1 weights" in refusal(copy)


def test_pickled_weights_are_never_opened(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "no safetensors weights" in refusal(copy)


def test_a_config_that_is_no_json(copy: Path) -> None:
    (copy / "config.json").write_text("{", encoding="utf-8")
    assert "cannot be loaded" in refusal(copy)


def test_a_model_that_brings_code(copy: Path) -> None:
    (copy / "modeling_own.py").write_text("raise SystemExit('this code ran')", encoding="utf-8")
    edit(
        copy / "config.json",
        model_type="own",
        auto_map={"AutoConfig": "modeling_own.Config", "AutoModelForCausalLM": "modeling_own.Model"},
    )
    assert "Python code of its own, which is never run" in refusal(copy)


def test_a_tokenizer_that_is_missing_or_cannot_chat(copy: Path) -> None:
    (copy / "chat_template.jinja").unlink()
    assert "no chat template" in refusal(copy)
    (copy / "tokenizer.json").write_text("{}", encoding="utf-8")
    assert "tokenizer cannot be read" in refusal(copy)
    (copy / "tokenizer.json").unlink()
    assert "tokenizer" in refusal(copy)


def test_a_slow_tokenizer(lm: LanguageModel) -> None:
    class Slow:
        is_fast = False
        chat_template = "{{ messages }}"

    with pytest.raises(ModelError, match="slow tokenizer"):
        LanguageModel.wrap(lm.model, Slow())


# -- models of the wrong kind -----------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def unsupported(kind: str) -> Any:
    """A small model of a kind that cannot be observed or has nothing to evict."""
    encoder = {key: value for key, value in SMALL.items() if key != "num_key_value_heads"}
    match kind:
        case "encoder":
            return BertLMHeadModel(BertConfig(**encoder))
        case "encoder and decoder":
            return T5ForConditionalGeneration(
                T5Config(d_model=16, d_ff=16, d_kv=4, num_layers=1, num_heads=2, vocab_size=300)
            )
        case "classifier":
            return LlamaForSequenceClassification(LlamaConfig(**SMALL, pad_token_id=0))
        case "no registry":
            return AutoModelForCausalLM.from_config(BloomConfig(hidden_size=16, n_layer=1, n_head=2, vocab_size=300))
        case "no cache":
            config = MambaConfig(hidden_size=16, num_hidden_layers=1, state_size=4, vocab_size=300)
            return AutoModelForCausalLM.from_config(config)
        case "sinks":
            return AutoModelForCausalLM.from_config(
                GptOssConfig(**SMALL, head_dim=16, num_local_experts=2, num_experts_per_tok=1)
            )
        case "latent":
            return AutoModelForCausalLM.from_config(DeepseekV3Config(**SMALL, first_k_dense_replace=2))
    raise AssertionError(kind)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("encoder", "not a causal language model"),
        ("encoder and decoder", "not a causal language model"),
        ("classifier", "not a causal language model (LlamaForSequenceClassification)"),
        ("no registry", "does not take its attention from transformers' registry"),
        ("no cache", "without an ordinary key/value cache"),
        ("sinks", "parts of its own, such as sinks"),
        ("latent", "keys and values of different sizes"),
    ],
)
def test_other_kinds_are_refused(kind: str, sentence: str, tmp_path: Path, tokenizer: Any) -> None:
    model = unsupported(kind)
    with pytest.raises(ModelError) as caught:
        LanguageModel.wrap(model, tokenizer, name="it")
    assert sentence.partition(" (")[0] in str(caught.value)

    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path)  # no weights, no tokenizer: refused before they are looked for
    assert sentence in refusal(tmp_path)


def test_linear_attention_and_shared_rows_are_refused(tmp_path: Path) -> None:
    for config, sentence in (
        (Qwen3NextConfig(**SMALL), "without an ordinary key/value cache"),
        (Gemma3nTextConfig(num_kv_shared_layers=15), "rows of another layer"),
    ):
        config.save_pretrained(tmp_path)
        assert sentence in refusal(tmp_path)


def test_a_gemma_3_that_also_sees_reads_text(tokenizer: Any) -> None:
    sizes = build_model("gemma3_text").config.to_dict()
    eyes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config=sizes,
        vision_config={**eyes, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=299,
    )
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.arange(3, 60)[None]
    with torch.no_grad():
        plain = model(ids).logits[:, -1]
    lm = LanguageModel.wrap(model, tokenizer)
    soft = SoftTokenTensors(torch.randn(5, 64), torch.randn(4, 4, 5, 16), LowRank.zero(lm, 2, seed=0))
    outcome = prefill(lm, ids, [Plan(JudgeQ(), 9)], soft_tokens=soft)
    assert torch.allclose(outcome.logits, plain, atol=1e-4)
    assert [None if kept is None else kept.shape[2] for kept in outcome.retained[0].kept] == [
        None,
        9,
        None,
        9,
    ]


@pytest.mark.parametrize(("family", "turns"), [(Olmo3Config, True), (Cohere2Config, False)])
def test_offsets_are_refused_where_queries_turn_in_a_way_that_is_not_seen(
    tokenizer: Any, family: Any, turns: bool
) -> None:
    """Cohere 2 leaves its global layers without RoPE and does not say so."""
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = family(**SMALL, **special, sliding_window=24, layer_types=[SLIDING, GLOBAL])
    with pytest.warns(UserWarning, match="is not tested"):
        lm = LanguageModel.wrap(AutoModelForCausalLM.from_config(config), tokenizer)
    queries = torch.randn(2, 4, 3, 16)
    if turns:
        assert not torch.allclose(lm.rotate(queries, 9), queries)
    else:
        with pytest.raises(ModelError, match="soft tokens without offsets"):
            lm.rotate(queries, 9)


def untested_llama(tokenizer: Any, spoil: Callable[..., Any]) -> LanguageModel:
    """A Llama under another name, with an attention that `spoil` makes of its own."""

    class OtherConfig(LlamaConfig):
        model_type = "other"

    model = LlamaForCausalLM(OtherConfig(**SMALL))
    for layer in model.model.layers:
        spoil(layer.self_attn)
    return LanguageModel.wrap(model, tokenizer, name="it")


@pytest.mark.filterwarnings("ignore:it is of the family other")
def test_a_family_without_tests_is_tried_out(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert untested_llama(tokenizer, lambda attention: None).geometry.layers == 2

    def halve(attention: Any) -> None:
        attention.num_key_value_groups = 4
        attention.k_proj = torch.nn.Linear(64, 16)
        attention.v_proj = torch.nn.Linear(64, 16)

    with pytest.raises(ModelError, match="2 layers with keys and values of 2 heads of 16 numbers"):
        untested_llama(tokenizer, halve)
    eager = modeling_llama.eager_attention_forward
    monkeypatch.setattr(  # what the family computes itself: sees the values turned round
        modeling_llama,
        "eager_attention_forward",
        lambda module, query, key, value, *rest, **more: eager(module, query, key, -value, *rest, **more),
    )
    with pytest.raises(ModelError, match="attention in a way of its own"):
        untested_llama(tokenizer, lambda attention: None)


def test_a_family_without_tests_loads_with_a_warning(tokenizer: Any) -> None:
    config = GPT2Config(n_embd=64, n_head=4, n_layer=2, n_positions=64, vocab_size=300)
    with pytest.warns(UserWarning, match="gpt2, which is not tested"):
        lm = LanguageModel.wrap(AutoModelForCausalLM.from_config(config), tokenizer)
    assert lm.model.config._attn_implementation == ATTENTION


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("Data processing error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_not_blamed_on_the_network(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise HubError.of(error)

    monkeypatch.setattr("judgeq.models.loading.snapshot", full)
    message = refusal("org/large")
    assert "no space left for org/large" in message
    assert "HF_HOME" in message


# -- the Hub ----------------------------------------------------------------------------------------------


def test_models_come_from_the_hub(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    unwanted = dict.fromkeys(("pytorch_model.bin", "consolidated.safetensors"), b"never fetched")
    encoder = json.dumps({"model_type": "bert", "architectures": ["BertForMaskedLM"]}).encode()
    for name, more in (("tiny", {}), ("gated", {}), ("encoder", {"config.json": encoder})):
        hub.repositories[f"org/{name}"] = Repository(gated=name == "gated")
        hub.repositories[f"org/{name}"].commit("main", {**files, **unwanted, **more}, "a model")
    commit = hub.repositories["org/tiny"].branches["main"]
    lm = load("org/tiny")
    assert (lm.name, lm.revision, lm.geometry.layers) == ("org/tiny", commit, 4)
    assert "org/tiny on the Hub has no such revision" in refusal("org/tiny", revision="nowhere")
    assert "There is no folder org/missing and no public repository" in refusal("org/missing")
    assert "org/gated is gated" in refusal("org/gated")
    assert "org/encoder is not a causal language model (BertForMaskedLM)" in refusal("org/encoder")
    fetched = [path.rpartition("/resolve/")[::2] for path in hub.requests if path.startswith("GET")]
    weights = {name for name, file in fetched if file.endswith("model.safetensors")}
    assert weights == {"GET /org/tiny"}  # the others were refused first
    assert not [file for _, file in fetched if file.endswith(tuple(unwanted))]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load("org/tiny").revision == commit  # from the Hub's own cache
    assert "check the network connection" in refusal("org/other")
