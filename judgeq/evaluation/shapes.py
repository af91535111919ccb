"""Models of a known shape with random weights: enough to measure time and memory, without a download.

Knows nothing of what is measured.
"""

from __future__ import annotations

from typing import Any

from judgeq.errors import InputError
from judgeq.language_model import Geometry, LanguageModel
from judgeq.soft_tokens import Probe, SoftTokens, SoftTokensConfig
from judgeq.supported import choose_device, choose_dtype

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "llama-3.2-1b": {
        "vocab_size": 128256,
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
    },
    "llama-3.1-8b": {
        "vocab_size": 128256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 131072,
    },
}
"""Llama configurations by name, sizes as published."""


def random_model(shape: str, device: Any = "auto", seed: int = 0) -> LanguageModel:
    """A model that runs and says nothing; it has no tokenizer.

    Args:
        shape: one of `SHAPES`.
        device: as in `judgeq.load`; weights are 32-bit on the CPU, bfloat16 elsewhere.
        seed: of the weights.

    Raises:
        InputError: an unknown shape.
    """
    if shape not in SHAPES:
        raise InputError(f"There is no shape {shape!r}: choose one of {', '.join(SHAPES)}")
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from judgeq.attention import ATTENTION
    from judgeq.cpu import use_fast_products

    config, device = LlamaConfig(**SHAPES[shape]), choose_device(device)
    if device.type == "cpu":
        use_fast_products()
    with torch.random.fork_rng(), device:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            config, dtype=choose_dtype("auto", device, config), attn_implementation=ATTENTION
        )
    model.eval().requires_grad_(False)
    return LanguageModel(model, None, f"{shape} (random weights)", None, Geometry.of(config))


def random_soft_tokens(lm: LanguageModel, n: int, seed: int) -> SoftTokens:
    """Soft tokens of the paper's form for such a model."""
    import torch

    hidden = lm.geometry.hidden
    drawn = torch.randn(n, hidden, generator=torch.Generator().manual_seed(seed))
    return SoftTokens(Probe(0.02 * drawn), SoftTokensConfig(lm.name, hidden, n, tokenizer_hash=""))
