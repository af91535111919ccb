"""The only place that touches transformers' attention and mask registries.

`judged_attention` computes what SDPA computes, with a soft cap where the family has one and over frozen rows where a
cache layer has some, and then passes queries, keys and values, after projection, QK-norm and RoPE, to an observer that
comes with the model's keyword arguments. No hook, no patched forward, no state on any module: without an observer, or
after one has raised, the model is unchanged.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from judgeq.attention.call import AttentionCall, Observer, OwnAttention, RowWeights
from judgeq.attention.causal import UnmaskedCausal, check_places, check_seen
from judgeq.attention.cpu_linear_prefill import SharedLinear
from judgeq.attention.softcap import capped_attention, grouped_attention
from judgeq.attention.weights import weighed_attention
from judgeq.errors import ModelError

ATTENTION = "judgeq"
"""The attention implementation to load models with: `from_pretrained(..., attn_implementation=ATTENTION)`."""


def judged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    observer: Observer | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention, then one call of the observer. Signature of transformers' attention registry.

    The mask is one of tokens, and layers with frozen rows take their part of it; see `judged_mask`.
    """
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    softcap, window = kwargs.get("softcap"), kwargs.get("sliding_window")
    own: OwnAttention | None = getattr(key, "own_attention", None)
    if isinstance(own, UnmaskedCausal) and attention_mask is None and query.shape[2] == 1:
        own = None  # one token sees every row
    weights: RowWeights | None = None
    weigh = getattr(observer, "weighs", False) and query.shape[:3:2] == (1, 1)
    own_weighed = getattr(own, "weighed_attention", None)
    if weigh and own is None:
        attended, weights = weighed_attention(query, key, value, attention_mask, factor, softcap)
        output = attended, None
    elif weigh and own_weighed is not None:
        attended, weights = own_weighed(query, key, value, factor, softcap)
        output = attended, None
    elif own is not None:
        output = own.attention(query, key, value, factor, softcap, attention_mask), None
    elif softcap is not None:
        output = capped_attention(query, key, value, attention_mask, factor, softcap), None
    elif attention_mask is None and _slow_alone(query):
        output = grouped_attention(query, key, value, factor), None
    else:
        output = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    if observer is not None:
        layer, weight = int(module.layer_idx), partial(output_weight, module, query)  # type: ignore[arg-type]
        observer.observe(AttentionCall(layer, query, key, value, factor, softcap, window, weight, weights=weights))
    return output


def _slow_alone(query: Tensor) -> bool:
    """Whether PyTorch's kernel takes several times as long for one query of every head as for a group's together."""
    return query.shape[2] == 1 and query.device.type == "cpu" and query.dtype == torch.bfloat16


def output_weight(module: nn.Module, queries: Tensor) -> Tensor:
    """A layer's output projection as a matrix (hidden, H * D).

    Args:
        module: an attention layer.
        queries: (B, H, Q, D), for sizes, type and device.

    Raises:
        ModelError: the layer keeps its output projection elsewhere.
    """
    projection = getattr(module, "o_proj", None)
    if projection is None:
        raise ModelError(
            f"Value-aware selection needs the output projection of every layer and {type(module).__name__} shows no "
            "o_proj: leave value_aware out for this model"
        )
    if type(projection) is nn.Linear or isinstance(projection, SharedLinear):
        return projection.weight
    # Quantized weights can only be read through their module, since bitsandbytes repacks them on some CPUs: unit
    # vectors give the columns. `forward` skips hooks, such as those of adapters.
    units = torch.eye(queries.shape[1] * queries.shape[3], dtype=queries.dtype, device=queries.device)
    columns = projection.forward(units)
    bias = getattr(projection, "bias", None)
    return (columns if bias is None else columns - bias).T


def judged_mask(
    *,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: Any = 0,
    attention_mask: Tensor | None = None,
    allow_is_causal_skip: bool = True,
    **kwargs: Any,
) -> Tensor | None:
    """SDPA's mask. Signature of transformers' mask registry.

    Sizes that end before the queries are those of a cache layer with attention of its own. It needs no mask unless
    tokens are hidden, and then one of all tokens: (B, 1, Q, seen). `kv_offset` is then the number of tokens among which
    its rows were chosen.

    Raises:
        InputError: the mask hides tokens whose rows were chosen without it, or is too short.
    """
    if isinstance(q_offset, int) and kv_offset + kv_length < q_offset + q_length:
        hides = attention_mask is not None and not attention_mask.all()
        if allow_is_causal_skip and not hides:
            return None
        if attention_mask is not None:
            check_places(attention_mask.shape[-1], q_offset + q_length)
            check_seen(attention_mask[:, :kv_offset])
        kv_length, kv_offset = q_offset + q_length, 0
    return sdpa_mask(
        q_length=q_length,
        kv_length=kv_length,
        q_offset=q_offset,
        kv_offset=kv_offset,
        attention_mask=attention_mask,
        allow_is_causal_skip=allow_is_causal_skip,
        **kwargs,
    )


AttentionInterface.register(ATTENTION, judged_attention)
AttentionMaskInterface.register(ATTENTION, judged_mask)
