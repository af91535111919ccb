"""Sizes of well-known models, for calculations and for models with random weights: nothing is downloaded."""

from __future__ import annotations

from typing import Any

from judgeq.errors import ModelError


def _shape(
    vocabulary: int,
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    kv_heads: int,
    positions: int,
    *,
    tied: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """A transformers config's fields, by default of a Llama; `tied`: embeddings are the head too."""
    return {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": positions,
        "tie_word_embeddings": tied,
        **more,
    }


SHAPES = {
    "tiny": _shape(300, 64, 96, 4, 4, 2, 4096, tied=True),
    "smollm2-135m": _shape(49152, 576, 1536, 30, 9, 3, 8192, tied=True),
    "smollm2-1.7b": _shape(49152, 2048, 8192, 24, 32, 32, 8192, tied=True),
    "llama-3.2-1b": _shape(128256, 2048, 8192, 16, 32, 8, 131072, tied=True, head_dim=64),
    "llama-3.1-8b": _shape(128256, 4096, 14336, 32, 32, 8, 131072),
    "llama-3.1-70b": _shape(128256, 8192, 28672, 80, 64, 8, 131072),
    "qwen3-1.7b": _shape(151936, 2048, 6144, 28, 16, 8, 40960, tied=True, model_type="qwen3", head_dim=128),
    "qwen3-4b": _shape(151936, 2560, 9728, 36, 32, 8, 40960, tied=True, model_type="qwen3", head_dim=128),
    "qwen3-8b": _shape(151936, 4096, 12288, 36, 32, 8, 40960, model_type="qwen3", head_dim=128),
    "mistral-7b-v0.3": _shape(32768, 4096, 14336, 32, 32, 8, 32768, model_type="mistral", sliding_window=None),
}
"""By name, `tiny` for trials: what a transformers config needs, except how positions are scaled."""


def config_of_shape(name: str) -> Any:
    """A transformers config of a named shape; raises `ModelError` for names that are not known."""
    from transformers import AutoConfig

    if name not in SHAPES:
        raise ModelError(f"There is no shape {name!r}: choose one of {', '.join(SHAPES)}")
    return AutoConfig.for_model(**SHAPES[name])
