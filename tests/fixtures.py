"""Shared fixtures: a tiny tokenizer, tiny random models of every tested family, and the embedded model."""

from __future__ import annotations

import tests.surroundings  # noqa: F401 # isort: skip - before everything that reads the environment

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, sync_playwright
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    SmolLM3Config,
)

from judgeq.cache.retained import RetainedCache
from judgeq.config import Decoding
from judgeq.inference.decode import decode
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from tests.hub import Hub, running_hub

pytest_plugins = ["tests.browser"]

CONFIGS: dict[str, Any] = {
    "gemma2": Gemma2Config,
    "gemma3_text": Gemma3TextConfig,
    "granite": GraniteConfig,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "mixtral": MixtralConfig,
    "olmo2": Olmo2Config,
    "phi3": Phi3Config,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "qwen3_moe": Qwen3MoeConfig,
    "smollm3": SmolLM3Config,
}
MakeLM = Callable[..., LanguageModel]
"""A maker of tiny models, see `make_lm`."""
SLIDING, GLOBAL = "sliding_attention", "full_attention"
WINDOW = 24
"""Tokens that layers with a sliding window see."""
GEMMA: dict[str, Any] = {
    "head_dim": 16,
    "query_pre_attn_scalar": 4,  # not the head dimension
    "sliding_window": WINDOW,
    "layer_types": [SLIDING, GLOBAL, SLIDING, GLOBAL],
    "tie_word_embeddings": False,  # random ones would repeat one word for ever
}
EXPERTS = {"num_experts_per_tok": 2, "num_local_experts": 4}
OWN: dict[str, dict[str, Any]] = {
    "gemma2": {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 5.0},  # caps that are felt
    "gemma3_text": GEMMA,
    "granite": {
        "attention_multiplier": 0.1,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.7,
        "logits_scaling": 2.0,
    },
    "mistral": {"sliding_window": None},
    "mixtral": {"sliding_window": None, **EXPERTS},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "smollm3": {"no_rope_layer_interval": 2},
}
"""What families have beside the common sizes, chosen so that a mistake shows in four layers."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
TEXT = (
    "The harbour lies in the north of the town. Every ship that comes in must name its captain, its port of "
    "origin and the number of its crew. The lighthouse was built in 1874 and is 31 metres tall. "
)


def build_tokenizer(text: str = TEXT, size: int = 300) -> PreTrainedTokenizerFast:
    """Byte-level BPE of at most `size` tokens, learned from `text`, with a chat template; every text encodes and
    decodes again."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|pad|>", "<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=4096,
    )


def build_model(family: str = "llama", seed: int = 0, **changes: Any) -> Any:
    """A random model of 4 layers, 4 query heads and 2 KV heads of 16, with 4096 positions, in float32."""
    sizes: dict[str, Any] = {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = CONFIGS[family](**{**sizes, **OWN.get(family, {}), **changes})
        # ten times the usual spread: attention that differs from row to row
        config.initializer_range = 0.2
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


@contextmanager
def without_end(lm: LanguageModel) -> Iterator[None]:
    """Within, answers get their full length: random models stop anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(lm.__dict__, "eos_ids", frozenset())
        yield


def written(lm: LanguageModel, cache: RetainedCache, logits: torch.Tensor, length: int) -> list[int]:
    """An answer of so many tokens."""
    with without_end(lm):
        return [step.token for step in decode(lm, cache, logits, Decoding(length))]


def four_tokens(lm: LanguageModel) -> SoftTokens:
    """Soft tokens of a tiny model that are embeddings alone."""
    return SoftTokens.initialise(lm, torch.arange(40, 44))


@pytest.fixture(autouse=True)
def _drawn_alike() -> None:
    """What a test draws at random does not depend on the tests before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="session")
def make_lm() -> MakeLM:
    """`make_lm("qwen3", seed=1, num_hidden_layers=2)`: a new tiny model with a tokenizer of its own."""

    def make(family: str = "llama", seed: int = 0, **changes: Any) -> LanguageModel:
        return LanguageModel.wrap(build_model(family, seed, **changes), build_tokenizer(), name=f"tiny-{family}")

    return make


@pytest.fixture(scope="session")
def lm(make_lm: MakeLM) -> LanguageModel:
    """One tiny Llama for all tests that do not change it."""
    return make_lm()


@pytest.fixture
def endless(lm: LanguageModel) -> Iterator[LanguageModel]:
    """The same, whose answers have no end."""
    with without_end(lm):
        yield lm


@pytest.fixture(scope="session")
def tokens(lm: LanguageModel) -> SoftTokens:
    """Four soft tokens for it."""
    return four_tokens(lm)


@pytest.fixture(scope="session", params=sorted(CONFIGS))
def each_lm(request: pytest.FixtureRequest, make_lm: MakeLM) -> LanguageModel:
    """A tiny model of every family in turn."""
    return make_lm(request.param)


@pytest.fixture(scope="session", params=["gemma2", "gemma3_text", "granite", "llama", "smollm3"])
def some_lm(request: pytest.FixtureRequest, make_lm: MakeLM) -> LanguageModel:
    """A tiny model of each family that stores, turns or scales rows in a way of its own: for what builds upon what
    `each_lm` has shown of all."""
    return make_lm(request.param)


@pytest.fixture(scope="session")
def smol() -> LanguageModel:
    """The embedded model, from the user's own cache; mark tests that use it with `embedded`."""
    return load("smollm2-135m")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama, saved with its tokenizer."""
    place = tmp_path_factory.mktemp("tiny-llama")
    build_model().save_pretrained(place)
    build_tokenizer().save_pretrained(place)
    return place


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture
def ids() -> torch.Tensor:
    """A prompt of 90 random tokens, (1, 90)."""
    return torch.randint(3, 300, (1, 90), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def soft() -> SoftTokenTensors:
    """Five random soft tokens."""
    return SoftTokenTensors(torch.randn((5, 64), generator=torch.Generator().manual_seed(2)))


@pytest.fixture
def soft_with_offsets() -> SoftTokenTensors:
    """Five random soft tokens with query offsets."""
    generator = torch.Generator().manual_seed(2)
    offsets = torch.randn((4, 4, 5, 16), generator=generator)
    return SoftTokenTensors(torch.randn((5, 64), generator=generator), offsets)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A stand-in on loopback that the client takes for the Hub; signed in as `me`."""
    with running_hub() as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "me-token")
        yield hub


@pytest.fixture(scope="session")
def chromium() -> str:
    """The Chromium that JUDGEQ_CHROMIUM names; without one a test is skipped, and fails in CI."""
    path = os.environ.get("JUDGEQ_CHROMIUM", "")
    if not path:
        reason = "JUDGEQ_CHROMIUM is not set: name a Chromium to see pages in a browser"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[Browser]:
    """A running Chromium, for tests marked `browser`; one for all, since two cannot be driven."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = playwright.chromium.launch(executable_path=chromium, args=options)
        yield running
        running.close()
