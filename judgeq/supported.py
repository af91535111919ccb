"""What is supported: model classes, tokenizers, quantizations, devices and types; the rest is refused.

Looks at configs and classes, so that a model is refused before its weights are fetched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from typing import Any

from judgeq.errors import ModelError

FAMILIES = (
    *("llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe"),
    *("gemma2", "gemma3_text", "granite", "olmo2", "smollm3"),
)
"""Model types that the tests cover; others that fit are loaded with a warning."""
QUANTIZATIONS = ("8bit", "4bit")
DTYPES = ("float32", "bfloat16", "float16")
BALANCED = "balanced"
"""The device of a model whose layers are spread over all GPUs."""


def check_model(config: Any, model_class: Any, name: str) -> None:
    """Refuses models whose attention cannot be observed, or whose cache has no rows to evict.

    Args:
        config: a transformers config.
        model_class: the class that will be, or is, instantiated; `None` if there is no causal one.
        name: for the message.
    """
    kind = config.model_type
    if not _is_causal(config, model_class):
        what = ", ".join(getattr(config, "architectures", None) or [kind])
        raise ModelError(
            f"{name} is not a causal language model ({what}): choose one that continues text, of a family "
            "such as llama or qwen3."
        )
    text = config.get_text_config(decoder=True)
    if reason := _why_not(text, model_class):
        raise ModelError(f"{name} ({kind}) {reason}: choose another family, such as {', '.join(FAMILIES)}.")
    if not is_tested(config):
        warnings.warn(
            f"{name} is of the family {text.model_type}, which is not tested; tested are "
            f"{', '.join(FAMILIES)}.",
            stacklevel=3,
        )


def is_tested(config: Any) -> bool:
    """Whether the tests cover this family."""
    return config.get_text_config(decoder=True).model_type in FAMILIES


def _why_not(text: Any, model_class: Any) -> str | None:
    """What is in the way of observing or evicting; None = nothing that a config would tell.

    Args:
        text: the config of the part that reads text.
    """
    layers = set(getattr(text, "layer_types", None) or ["full_attention"])
    if getattr(model_class, "_is_stateful", False) or layers - {"full_attention", "sliding_attention"}:
        return "has layers without an ordinary key/value cache, so there are no rows to evict"
    if getattr(text, "num_kv_shared_layers", None):
        return "has layers that read the rows of another layer, so no layer can evict its own"
    if getattr(text, "kv_lora_rank", None):
        return "has keys and values of different sizes (latent attention), which are not stored here"
    if not getattr(model_class, "_supports_attention_backend", False):
        return "does not take its attention from transformers' registry, so it cannot be observed"
    capped = getattr(text, "attn_logit_softcapping", None)
    if not (capped or getattr(model_class, "_supports_sdpa", False)):
        return "has attention with parts of its own, such as sinks, which are not computed here"
    return None


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Refuses tokenizers that cannot tie tokens to characters or cannot write a chat prompt."""
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{name} has only a slow tokenizer, which cannot say where in the text a token lies: choose a "
            "model with a tokenizer.json."
        )
    if not tokenizer.chat_template:
        raise ModelError(
            f"{name} has no chat template: choose the instruction-tuned (chat) version of the model."
        )


def check_quantization(quantization: str | None) -> None:
    """Refuses unknown quantizations, and known ones without bitsandbytes."""
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        raise ModelError(
            f"quantization is {quantization!r}: choose {' or '.join(QUANTIZATIONS)}, or leave it out."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"{quantization} weights need bitsandbytes: install it with `pip install bitsandbytes`, or leave "
            "quantization out."
        )


def choose_device(device: Any) -> Any:
    """The `torch.device` meant; `"auto"` is CUDA where there is one, `BALANCED` the first of several."""
    import torch

    if device == BALANCED:
        device = "cuda"

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"device is {device!r}: choose auto, cpu, cuda or {BALANCED}.") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ModelError("There is no CUDA device that torch can use here: choose device cpu or auto.")
    return chosen


def choose_dtype(dtype: Any, device: Any, config: Any) -> Any:
    """The `torch.dtype` meant; `"auto"` is float32 on the CPU and the model's own 16-bit type elsewhere."""
    import torch

    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        own = config.get_text_config(decoder=True).dtype
        on_accelerator = own if own in (torch.float16, torch.bfloat16) else torch.bfloat16
        return torch.float32 if device.type == "cpu" else on_accelerator
    if dtype not in DTYPES:
        raise ModelError(f"dtype is {dtype!r}: choose auto, {', '.join(DTYPES)}.")
    return getattr(torch, dtype)


@contextlib.contextmanager
def clear_errors(name: str, device: Any) -> Iterator[None]:
    """Turns what transformers raises about a model's files into one sentence."""
    import torch
    from safetensors import SafetensorError

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{name} does not fit into the memory of {device}: choose quantization 4bit, device {BALANCED} where there "
            "are several GPUs, or a smaller model."
        ) from error
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"{name} brings Python code of its own, which is never run: choose a model of a family that "
                "transformers knows."
            ) from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(
            f"{name} cannot be loaded ({reason}): check its files, or choose another model."
        ) from error


def _is_causal(config: Any, model_class: Any) -> bool:
    if model_class is None or not getattr(model_class, "can_generate", bool)():
        return False
    if config.is_encoder_decoder or getattr(config, "is_decoder", True) is False:
        return False
    named = [architecture.lower() for architecture in getattr(config, "architectures", None) or []]
    return not named or model_class.__name__.lower() in named
