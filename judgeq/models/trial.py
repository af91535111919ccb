"""A short first pass of a model of an untested family: does it show what eviction needs?

Knows nothing of tokenizers, methods or where models come from.
"""

from __future__ import annotations

from typing import Any

import torch

from judgeq.attention.call import AttentionCall
from judgeq.attention.registry import ATTENTION
from judgeq.errors import ModelError

TOKENS = 8
ERROR_ALLOWED = (
    0.1  # of the length of a token's logits, for the median token: rounding in 16 bits is far below
)


@torch.no_grad()
def check_forward(model: Any, layers: int, rows: tuple[int, int], name: str) -> None:
    """Refuse a model that would be observed, or would compute, wrongly.

    Args:
        model: one that runs with `attention.judged_attention`.
        layers: their number.
        rows: KV heads and head dimension, which every layer's keys and values must have.
        name: for the message.

    Raises:
        ModelError: a layer is not seen or has other keys or values, or the family's own attention gives other logits.
    """
    seen: list[tuple[int, list[int], list[int]]] = []

    class Shapes:
        def observe(self, call: AttentionCall) -> None:
            seen.append((call.layer, list(call.keys.shape), list(call.values.shape)))

    ids = torch.arange(TOKENS, device=model.device)[None]
    ours = model(input_ids=ids, use_cache=False, observer=Shapes()).logits[0].float()
    heads, dim = rows
    shape = [1, heads, TOKENS, dim]
    if seen != [(layer, shape, shape) for layer in range(layers)]:
        raise ModelError(
            f"{name} does not show {layers} layers with keys and values of {heads} heads of {dim} numbers, as its "
            "config says: choose a model of a tested family."
        )
    model.set_attn_implementation("eager")
    try:
        theirs = model(input_ids=ids, use_cache=False).logits[0].float()
    finally:
        model.set_attn_implementation(ATTENTION)
    if ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1)).median() > ERROR_ALLOWED:
        raise ModelError(
            f"{name} computes its attention in a way of its own, which is not supported: choose a model of a tested "
            "family."
        )
