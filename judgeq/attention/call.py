"""One attention call of a layer, its observer, and the attention that a cache layer may compute itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, eq=False)
class RowWeights:
    """How much one token's query heads attend to each stored row of a layer, as the attention's output used it.

    A query head's weights add up to 1 over both parts.

    Attributes:
        rows: (H_kv, G, K) float32, to the rows of `AttentionCall.keys`, the token's own last.
        frozen: (G, R) float32, to the frozen rows of a `RaggedLayer`, those of KV head 0 first, each by the query heads
            of its group; None elsewhere.
    """

    rows: Tensor
    frozen: Tensor | None = None


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
        window: sliding window of this layer in tokens, the query's own included; None = no window.
        output_weight: gives (hidden, H * D), the layer's output projection; see `registry.output_weight`.
        weights: those of a pass over one token of one prompt, for an observer that `weighs`; else None.
    """

    layer: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    scaling: float
    softcap: float | None
    window: int | None
    output_weight: Callable[[], Tensor]
    weights: RowWeights | None = field(default=None, kw_only=True)


class Observer(Protocol):
    """Receives the attention calls of a forward pass that is given it as `observer=`.

    One with a true attribute `weighs` also gets their weights; attention is then computed so that these are left over.
    """

    def observe(self, call: AttentionCall) -> None:
        """Called once per layer, in ascending order."""


class OwnAttention(Protocol):
    """Attribute `own_attention` of the keys that a cache layer returns, where SDPA over them would be wrong."""

    def attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Softmax attention of the last `S` tokens, causal among themselves, to all rows before them.

        Args:
            queries: (B, H, S, D).
            keys, values: (B, H_kv, K, D); the last `S` rows are the queries' own.
            scaling: factor on the dot product.
            softcap: bound of the logits; None = no bound.
            mask: (B, 1 or H, S, seen), see `causal.later_part`; None hides nothing.

        Returns:
            (B, S, H, D), as transformers' attention functions do.

        Raises:
            InputError: the mask does not fit, see `causal.later_part`.
        """


class WeighedAttention(OwnAttention, Protocol):
    """An `OwnAttention` whose weights can be recorded."""

    def weighed_attention(
        self, queries: Tensor, keys: Tensor, values: Tensor, scaling: float, softcap: float | None = None
    ) -> tuple[Tensor, RowWeights]:
        """`OwnAttention.attention` of one token of one prompt, and its weights."""
