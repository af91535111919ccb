"""Models of a known shape with random weights: enough to measure time and memory, without a download.

Knows nothing of what is measured.
"""

from __future__ import annotations

from typing import Any

from judgeq.language_model import Geometry, LanguageModel
from judgeq.probe import Probe
from judgeq.shapes import config_of_shape
from judgeq.soft_tokens import SoftTokens
from judgeq.soft_tokens_config import SoftTokensConfig
from judgeq.supported import choose_device, choose_dtype


def random_model(shape: str, device: Any = "auto", seed: int = 0) -> LanguageModel:
    """A model that runs and says nothing; it has no tokenizer.

    Args:
        shape: one of `judgeq.shapes.SHAPES`.
        device: as in `judgeq.load`; weights are 32-bit on the CPU, bfloat16 elsewhere.
        seed: of the weights.

    Raises:
        ModelError: an unknown shape.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from judgeq.attention import ATTENTION
    from judgeq.cpu import use_fast_products

    config, device = config_of_shape(shape), choose_device(device)
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
