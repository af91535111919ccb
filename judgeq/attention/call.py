"""One attention call of a layer: what an observer is given, and what a cache layer may bring to compute it itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """A layer's attention in a forward pass, after its output was computed.

    Attributes:
        layer: index of the layer.
        queries: (B, H, Q, D) of the tokens of this pass, after RoPE.
        keys, values: (B, H_kv, K, D), rows already in the cache first, then this pass's own; without the frozen rows of
            a `RaggedLayer`.
        scaling: factor on the dot product.
        softcap: bound of the attention logits; None = no bound.
        window: this layer sees only so many tokens, the query's own among them; None = all.
        output_weight: gives (hidden, H * D), the layer's output projection; see `registry.output_weight`.
    """

    layer: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    scaling: float
    softcap: float | None
    window: int | None
    output_weight: Callable[[], Tensor]


class Observer(Protocol):
    """Whatever reads attention; pass it to the model's forward as `observer=`."""

    def observe(self, call: AttentionCall) -> None:
        """Called once a layer, in ascending order."""


class OwnAttention(Protocol):
    """What a cache layer puts on the keys it returns, as `own_attention`, where SDPA over them would not do."""

    def attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(B, Q, H, D), as transformers' attention functions give it; see `causal.CausalRows.attention`."""
