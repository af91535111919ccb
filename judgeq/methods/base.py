"""The protocol of an eviction method: look at one layer after its attention, score the prompt's rows.

A method keeps no state between layers or calls; everything it may look at is in the `LayerView`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from judgeq.config import Selection
from judgeq.scoring import mean_attention


@dataclass(frozen=True)
class LayerView:
    """One layer of a prefill, between its attention and its eviction.

    Attributes:
        layer: index of the layer.
        queries: (B, H, Q, D) of this pass's tokens, after RoPE.
        keys, values: (B, H_kv, K, D); the first `prompt_tokens` are the prompt's, the last `Q` this pass's own.
        prompt_tokens: `T`.
        probe_tokens: `S`, the tokens behind the prompt that only ask (soft tokens, or a response); may be 0.
        scaling: factor on the dot product.
        probe_offsets: (H, S, D), added to the probe's queries where they score; None = none.
    """

    layer: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    prompt_tokens: int
    probe_tokens: int
    scaling: float
    probe_offsets: Tensor | None = None

    def probe_attention(self) -> Tensor:
        """Attention of the probe's queries to the prompt, averaged over them: (B, H_kv, G, T)."""
        first = self.keys.shape[2] - self.probe_tokens
        return self._attention(first, self.probe_tokens, self.probe_offsets)

    def window_attention(self, window: int) -> Tensor:
        """Attention of the last `window` prompt queries to the prompt, averaged over them: (B, H_kv, G, T)."""
        window = min(window, self.prompt_tokens)
        return self._attention(self.prompt_tokens - window, window)

    def _attention(self, first: int, count: int, added: Tensor | None = None) -> Tensor:
        offset = self.keys.shape[2] - self.queries.shape[2]  # position of this pass's first query
        queries = self.queries[:, :, first - offset : first - offset + count]
        if added is not None:
            queries = queries + added.to(queries)
        return mean_attention(
            queries, self.keys[:, :, : first + count], self.scaling, first, self.prompt_tokens
        )


@dataclass(frozen=True)
class Method(ABC):
    """An eviction method. Implementations are small frozen dataclasses, registered by name.

    Attributes:
        name: how a person calls it, such as `"snapkv"`.
        probe: which tokens must stand behind the prompt: `"none"`, `"soft"` (soft tokens) or `"response"` (the answer).
        selection: sinks, recent window and pooling that turn its scores into rows.
    """

    name: ClassVar[str]
    probe: ClassVar[Literal["none", "soft", "response"]] = "none"

    selection: Selection = Selection()

    @abstractmethod
    def score(self, view: LayerView) -> Tensor | None:
        """Importance (B, H_kv, T) float32, higher = keep; None keeps every row."""
