"""Models of a known shape with random weights: enough to measure time and memory, without a download.

Knows nothing of what is measured.
"""

from __future__ import annotations

from typing import Any

from judgeq.models.language_model import Geometry, LanguageModel
from judgeq.models.shapes import config_of_shape
from judgeq.models.supported import choose_device, choose_dtype
from judgeq.soft_tokens.config import SoftTokensConfig
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.values import seed64


def random_model(
    shape: str, device: Any = "auto", seed: int = 0, *, dtype: Any = None, quantization: str | None = None
) -> LanguageModel:
    """A model that runs and says nothing; it has no tokenizer.

    Args:
        shape: one of `judgeq.models.shapes.SHAPES`.
        device, dtype, quantization: as in `judgeq.load`. All weights are drawn before any is quantized.
        seed: of the weights.

    Raises:
        ModelError: an unknown shape, or a quantization that is unknown or cannot be had here.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    from judgeq.attention.registry import ATTENTION
    from judgeq.models.cpu_trial import use_layout
    from judgeq.models.supported import check_quantization

    check_quantization(quantization)
    config, device = config_of_shape(shape), choose_device(device)
    number = choose_dtype(dtype, device, config, quantized=bool(quantization))
    with torch.device("meta"):  # `from_config` would set the number type of the whole process, and draw as it does
        model = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config).to(number)
    model.to_empty(device=device).tie_weights()
    model.set_attn_implementation(ATTENTION)
    decoder = model.eval().requires_grad_(False).get_decoder()
    decoder.rotary_emb = type(decoder.rotary_emb)(config).to(device)
    generator = torch.Generator(device).manual_seed(seed64(seed))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(0, config.initializer_range, generator=generator)
        else:  # of a norm
            parameter.fill_(1)
    if quantization:
        _store_in_few_bits(model, quantization)
    use_layout(model)
    return LanguageModel(model, None, f"{shape} (random weights)", None, Geometry.of(config))


def _store_in_few_bits(model: Any, quantization: str) -> None:
    """Replace every linear map but the head, as transformers does where it loads weights, one by one."""
    import bitsandbytes as bnb
    from torch import nn

    head = model.get_output_embeddings()
    maps = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    for name, linear in maps.items():
        if linear is head:
            continue
        sizes, weight = (linear.in_features, linear.out_features, linear.bias is not None), linear.weight
        if quantization == "4bit":
            small = bnb.nn.Linear4bit(*sizes, weight.dtype, quant_type="nf4", device="meta")
            small.weight = bnb.nn.Params4bit(weight.data, False, quant_type="nf4", module=small)
        else:
            small = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=6.0, device="meta")
            small.weight = bnb.nn.Int8Params(weight.data.cpu(), requires_grad=False, has_fp16_weights=False)
        small.bias = linear.bias
        model.set_submodule(name, small.to(weight.device))


def random_soft_tokens(lm: LanguageModel, n: int, seed: int) -> SoftTokens:
    """Soft tokens of the paper's form for such a model."""
    import torch

    hidden = lm.geometry.hidden
    drawn = torch.randn(n, hidden, generator=torch.Generator().manual_seed(seed64(seed)))
    return SoftTokens(SoftTokenTensors(0.02 * drawn), SoftTokensConfig(lm.name, hidden, n, tokenizer_hash=""))
