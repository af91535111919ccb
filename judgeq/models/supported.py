"""What is supported: model classes, tokenizers, quantizations, devices and types; the rest is refused.

Judges by configs and classes, so that a model is refused before its weights are fetched.
"""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any

from judgeq.errors import ModelError

if TYPE_CHECKING:
    from judgeq.attention.call import AttentionCall

FAMILIES = (
    *("llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3", "qwen3_moe"),
    *("gemma2", "gemma3_text", "granite", "olmo2", "smollm3"),
)
"""Model types that the tests cover; others that fit are loaded with a warning."""
QUANTIZATIONS = ("8bit", "4bit")
DTYPES = ("float32", "bfloat16", "float16")
BALANCED = "balanced"
"""The device of a model whose layers are spread over all GPUs."""
TRIAL_TOKENS = 8
ERROR_ALLOWED = 0.1
"""Of the length of a token's logits, for the median token: rounding in 16 bits is far below."""
CONTENT_MARK = "\u241f"
"""A character that no template contains: replaces a message's text while the template is analysed."""


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
            f"{name} is of the family {text.model_type}, which is not tested; tested are {', '.join(FAMILIES)}.",
            stacklevel=3,
        )


def check_in_memory(model: Any, tokenizer: Any) -> None:
    """Rejects what is not a plain transformers model with its tokenizer, and says how to get one.

    PEFT, accelerate and others are known by what their objects show, since they need not be installed.
    """
    from transformers import MODEL_MAPPING, PreTrainedModel, PreTrainedTokenizerBase

    given = "`LanguageModel.wrap` was given"
    if isinstance(tokenizer, PreTrainedModel) or isinstance(model, PreTrainedTokenizerBase):
        raise ModelError(f"{given} the tokenizer first: give the model first, then the tokenizer that belongs to it.")
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"{given} {_no_model(model)}.")
    kind = type(model).__name__
    if type(model) is MODEL_MAPPING.get(type(model.config), None):
        raise ModelError(
            f"{given} a {kind}, which has no head that predicts tokens: load the same files with "
            "`AutoModelForCausalLM.from_pretrained`."
        )
    if any(_is_compiled(module) for module in model.modules()):
        raise ModelError(
            f"{given} a compiled {kind}, whose attention cannot be observed: load it again and leave out `compile`."
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ModelError(
            f"{given} a {kind} with weights that are not in memory, such as accelerate offloads: load all of them, in "
            "4 bits or spread over several GPUs if there is too little room."
        )
    if not hasattr(tokenizer, "is_fast"):
        what = "its `.tokenizer`" if hasattr(tokenizer, "tokenizer") else "what `AutoTokenizer` loads"
        raise ModelError(f"{given} {_kind(tokenizer)} as the tokenizer: give {what}.")


def _is_compiled(module: Any) -> bool:
    forward = vars(module).get("forward")
    return getattr(module, "_compiled_call_impl", None) is not None or hasattr(forward, "_torchdynamo_orig_callable")


def _no_model(model: Any) -> str:
    """What an object is that is not a transformers model, and what to give instead."""
    if isinstance(model, type):
        return f"the class {model.__name__}: give a model, such as `{model.__name__}.from_pretrained` returns"
    if isinstance(model, (str, PathLike)):
        return f"the name {str(model)!r}: give a model, or call `judgeq.load` with the name"
    if hasattr(model, "peft_config"):
        if all(getattr(each, "is_prompt_learning", False) for each in model.peft_config.values()):
            return (
                "a model with a prompt that PEFT has tuned, which cannot be merged: give `model.get_base_model()`, and "
                "train soft tokens from the prompt with `SoftTokens.from_peft`"
            )
        return "a model with an adapter of PEFT: give what its `merge_and_unload()` returns"
    if hasattr(model, "_orig_mod"):
        return "a compiled model, whose attention cannot be observed: give what was compiled, its `._orig_mod`"
    if hasattr(model, "module"):
        return f"a model inside {type(model).__name__}: give its `.module`"
    if hasattr(model, "model") and hasattr(model, "tokenizer"):
        return f"{_kind(model)}: give its `.model` and its `.tokenizer`"
    return f"{_kind(model)}: give a model of transformers, such as `AutoModelForCausalLM.from_pretrained` returns"


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of the class {type(value).__name__}"


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


def check_tokenizer(tokenizer: Any, name: str, rows: int) -> None:
    """Refuses tokenizers that cannot tie tokens to characters, cannot write a chat prompt, or belong to another model.

    Args:
        rows: of the model's embeddings.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{name} has only a slow tokenizer, which cannot say where in the text a token lies: choose a "
            "model with a tokenizer.json."
        )
    check_chat_template(tokenizer.chat_template, name)
    _check_rows(tokenizer, _written_by_template(tokenizer, name), name, rows)


def check_chat_template(template: Any, name: str) -> None:
    """Refuses a model that comes without a template to write prompts with."""
    if not template:
        raise ModelError(f"{name} has no chat template: choose the instruction-tuned (chat) version of the model.")


def _written_by_template(tokenizer: Any, name: str) -> str:
    """What the template makes of one message, which must occur in it once."""
    message = [{"role": "user", "content": CONTENT_MARK}]
    try:
        written = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    except Exception as error:  # a template is a program: what it may raise has no common base
        raise ModelError(
            f"The chat template of {name} does not work ({_first_line(error)}): correct it, in chat_template.jinja or "
            "`tokenizer.chat_template`, or choose another model."
        ) from error
    if written.count(CONTENT_MARK) != 1:
        raise ModelError(
            f"The chat template of {name} shows a message {written.count(CONTENT_MARK)} times instead of once: correct "
            "it, in chat_template.jinja or `tokenizer.chat_template`, so that it writes the content, a text, as it is."
        )
    return written


def _check_rows(tokenizer: Any, written: str, name: str, rows: int) -> None:
    """Refuses a tokenizer that gives tokens beyond the embeddings' rows.

    Special tokens that the template does not write never come up, and there are models that have such.
    """
    added = tokenizer.added_tokens_decoder
    beyond = [token for at, token in added.items() if at >= rows]
    if tokenizer.vocab_size > rows or any(not token.special or str(token) in written for token in beyond):
        count = max(tokenizer.vocab_size, 1 + max(added, default=0))
        raise ModelError(
            f"The tokenizer of {name} has {count:,} tokens and the model has embeddings for {rows:,}: use the "
            "tokenizer that the model came with, or, where tokens were added, enlarge the model with "
            f"`model.resize_token_embeddings({count})`, train it on them and save both."
        )


def check_forward(model: Any, layers: int, rows: tuple[int, int], name: str) -> None:
    """A short first pass of a model of an untested family: does it show what eviction needs?

    Args:
        model: one that runs with `attention.judged_attention`.
        layers: their number.
        rows: KV heads and head dimension, which every layer's keys and values must have.
        name: for the message.

    Raises:
        ModelError: a layer is not seen or has other keys or values, or the family's own attention gives other logits.
    """
    import torch

    from judgeq.attention.registry import ATTENTION

    seen: list[tuple[int, list[int], list[int]]] = []

    class Shapes:
        def observe(self, call: AttentionCall) -> None:
            seen.append((call.layer, list(call.keys.shape), list(call.values.shape)))

    ids = torch.arange(TRIAL_TOKENS, device=model.device)[None]
    with torch.no_grad():
        ours = model(input_ids=ids, use_cache=False, observer=Shapes()).logits[0].float()
    heads, dim = rows
    shape = [1, heads, TRIAL_TOKENS, dim]
    if seen != [(layer, shape, shape) for layer in range(layers)]:
        raise ModelError(
            f"{name} does not show {layers} layers with keys and values of {heads} heads of {dim} numbers, as its "
            "config says: choose a model of a tested family."
        )
    model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            theirs = model(input_ids=ids, use_cache=False).logits[0].float()
    finally:
        model.set_attn_implementation(ATTENTION)
    if ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).median() > ERROR_ALLOWED:
        raise ModelError(
            f"{name} computes its attention in a way of its own, which is not supported: choose a model of a tested "
            "family."
        )


def check_quantization(quantization: str | None) -> None:
    """Refuses unknown quantizations, and known ones without bitsandbytes."""
    if quantization is None:
        return
    if quantization not in QUANTIZATIONS:
        raise ModelError(f"quantization is {quantization!r}: choose {' or '.join(QUANTIZATIONS)}, or leave it out.")
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
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ModelError("There is no CUDA device that torch can use here: choose device cpu or auto.")
        count = torch.cuda.device_count()
        if chosen.index is not None and chosen.index >= count:
            raise ModelError(
                f"There is no {chosen} here, for the CUDA devices are counted from 0 and there are {count}: choose "
                f"device cuda:{count - 1} or auto."
            )
    elif chosen.type != "cpu":
        try:
            torch.zeros(1, device=chosen).tolist()
        except Exception as error:  # PyTorch says in many ways that it was built without a device
            raise ModelError(
                f"There is no device {chosen} here that torch can put numbers on: choose device cpu or auto."
            ) from error
    return chosen


def choose_dtype(dtype: Any, device: Any, config: Any, *, quantized: bool = False) -> Any:
    """The `torch.dtype` meant: see `judgeq.load`; `"auto"` is float32 for quantized weights on a CPU."""
    import torch

    from judgeq.models.cpu_trial import cpu_trial

    if dtype in (*(getattr(torch, name) for name in DTYPES), torch.float64):
        return dtype
    if dtype is None or dtype == "auto":
        if device.type == "cpu":
            tried = dtype == "auto" and not quantized
            return torch.bfloat16 if tried and cpu_trial().prefers_bfloat16 else torch.float32
        own = config.get_text_config(decoder=True).dtype
        return own if own in (torch.float16, torch.bfloat16) else torch.bfloat16
    if dtype not in DTYPES:
        raise ModelError(f"dtype is {dtype!r}: choose auto, {', '.join(DTYPES)}.")
    return getattr(torch, dtype)


@contextlib.contextmanager
def clear_errors(name: str, device: Any) -> Iterator[None]:
    """Within, what transformers raises about a model's files becomes one sentence."""
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
        raise ModelError(
            f"{name} cannot be loaded ({_first_line(error)}): check its files, or choose another model."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _is_causal(config: Any, model_class: Any) -> bool:
    if model_class is None or not getattr(model_class, "can_generate", bool)():
        return False
    if config.is_encoder_decoder or getattr(config, "is_decoder", True) is False:
        return False
    named = [architecture.lower() for architecture in getattr(config, "architectures", None) or []]
    return not named or model_class.__name__.lower() in named
