"""What eviction must equal: dense attention over a full cache in which the evicted rows weigh nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from judgeq.inference.plan import Retained
from judgeq.models.language_model import LanguageModel

REFERENCE = "masked-reference"


def masked_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: None,
    scaling: float,
    gone: Any,
    sliding_window: int | None = None,
    softcap: float | None = None,
    recorded: dict[int, Tensor] | None = None,
    **rest: Any,
) -> tuple[Tensor, None]:
    """Written out, with nothing of the library.

    Args:
        gone: for each layer (H_kv, T), or None.
        recorded: gets the weights (1, H, Q, K) of each layer.
    """
    groups = query.shape[1] // key.shape[1]
    logits = query @ key.repeat_interleave(groups, 1).transpose(2, 3) * scaling
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    count, rows = logits.shape[2:]
    ago = torch.arange(rows - count, rows)[:, None] - torch.arange(rows)
    hidden = (ago < 0).repeat(key.shape[1], 1, 1)
    if sliding_window is not None:
        hidden |= ago >= sliding_window
    elif gone is not None:
        prompt = gone[module.layer_idx].shape[1]
        hidden[..., :prompt] |= gone[module.layer_idx][:, None]
    weights = logits.masked_fill(hidden.repeat_interleave(groups, 0), -torch.inf).softmax(-1)
    if recorded is not None:
        recorded[module.layer_idx] = weights
    return (weights @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), None


AttentionInterface.register(REFERENCE, masked_attention)


@contextmanager
def attention(lm: LanguageModel, name: str) -> Iterator[None]:
    """Within, the model computes its attention in this way."""
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation(name)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)


def gone_rows(retained: Retained, tokens: int) -> list[Tensor]:
    """For each layer (H_kv, T), true where a row was evicted."""
    gone = []
    for kept in retained.kept:
        layer = torch.zeros(2, tokens, dtype=torch.bool)
        if kept is not None:
            heads: Sequence[Tensor] = kept if isinstance(kept, tuple) else kept[0]
            for head, rows in enumerate(heads):
                layer[head] = True
                layer[head, rows] = False
        gone.append(layer)
    return gone
