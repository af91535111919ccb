"""The protocol of an eviction method: look at one layer after its attention, score the prompt's rows.

A method keeps no state between layers or calls; everything it may look at is in the `LayerView`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch.nn.functional as F
from torch import Tensor

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.scoring import accumulated_attention, mean_attention, output_norms

Found = TypeVar("Found")


@dataclass(frozen=True)
class LayerView:
    """One layer of a prefill, between its attention and its eviction.

    Attributes:
        layer: index of the layer.
        queries: (B, H, Q, D) of this pass's tokens, after RoPE.
        keys, values: (B, H_kv, K, D); the first `prompt_tokens` are the prompt's, the last `Q` this pass's own. Layers
            with a sliding window have only the window's rows of the prompt in a second pass.
        prompt_tokens: `T`.
        response_tokens: `R`, tokens of an answer right behind the prompt; 0 = none.
        soft_tokens: `S`, the soft tokens that end this pass; 0 = none.
        scaling: factor on the dot product.
        output_weight: gives (hidden, H * D), the layer's output projection.
        offsets: (H, S, D), added to the soft tokens' queries where they score; None = none.
        softcap: bound of the attention logits; None = no bound.
        carried: (B, H_kv, G, c) float32, the attention that the `c` tokens before this pass paid one another, summed;
            None where no method needs it, or nothing was read before.
    """

    layer: int
    queries: Tensor
    keys: Tensor
    values: Tensor
    prompt_tokens: int
    response_tokens: int
    soft_tokens: int
    scaling: float
    output_weight: Callable[[], Tensor]
    offsets: Tensor | None = None
    softcap: float | None = None
    carried: Tensor | None = None
    _found: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """What `compute` gives, computed for the first who asks by this key in this layer."""
        if key not in self._found:
            self._found[key] = compute()
        return self._found[key]

    @property
    def prompt_rows(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the prompt, (B, H_kv, T, D), without those of a response and of soft tokens."""
        rows = self.keys.shape[2] - self.response_tokens - self.soft_tokens
        return self.keys[:, :, :rows], self.values[:, :, :rows]

    def soft_attention(self) -> Tensor:
        """Attention of the soft tokens to the prompt, averaged over them: (B, H_kv, G, T)."""
        first = self.keys.shape[2] - self.soft_tokens
        return self.once("soft", lambda: self._attention(first, self.soft_tokens, self.offsets))

    def response_attention(self) -> Tensor:
        """Attention of the response to the prompt, averaged over its tokens: (B, H_kv, G, T)."""
        return self.once("response", lambda: self._attention(self.prompt_tokens, self.response_tokens))

    def window_attention(self, window: int) -> Tensor:
        """Attention of the last `window` prompt queries to the prompt, averaged over them: (B, H_kv, G, T)."""
        window = min(window, self.prompt_tokens)
        return self.once(("window", window), lambda: self._attention(self.prompt_tokens - window, window))

    def accumulated_attention(self) -> Tensor:
        """Attention of all prompt queries to the prompt, summed over them: (B, H_kv, G, T)."""
        return self.once("accumulated", self._accumulated)

    def value_norms(self) -> Tensor:
        """What each row's value can add to the hidden states: (B, H_kv, T) float32, see `scoring.output_norms`."""
        return self.once("values", lambda: output_norms(self.prompt_rows[1], self.output_weight()))

    @property
    def _before(self) -> int:
        """Rows in front of this pass, whose queries are gone: the position of its first query."""
        return self.keys.shape[2] - self.queries.shape[2]

    def _accumulated(self) -> Tensor:
        before = self._before
        queries = self.queries[:, :, : self.prompt_tokens - before]
        keys = self.keys[:, :, : self.prompt_tokens]
        found = accumulated_attention(queries, keys, self.scaling, softcap=self.softcap)
        if not before:
            return found
        if self.carried is None or self.carried.shape[-1] != before:
            raise InputError(
                f"The first {before:,} tokens were read before and the attention that they paid was not added up: give "
                "the method the property prompt_queries, with the value None"
            )
        return found + F.pad(self.carried, (0, self.prompt_tokens - before))

    def _attention(self, first: int, count: int, added: Tensor | None = None) -> Tensor:
        at = first - self._before
        if at < 0:
            raise InputError(
                f"The last {self.prompt_tokens - first:,} tokens of the prompt are looked at and the last pass has "
                f"read {self.prompt_tokens - self._before:,}: say so in the method's property prompt_queries"
            )
        queries = self.queries[:, :, at : at + count]
        if added is not None:
            queries = queries + added.to(queries)
        keys = self.keys[:, :, : first + count]
        return mean_attention(queries, keys, self.scaling, first, self.prompt_tokens, self.softcap)


@dataclass(frozen=True)
class Method(ABC):
    """An eviction method. Implementations are small frozen dataclasses of hashable fields, registered by name.

    Attributes:
        name: how a person calls it, such as `"snapkv"`.
        needs_soft_tokens: soft tokens must stand at the end.
        needs_response: an answer, or how it begins, must stand behind the prompt: a second pass.
        selection: sinks, recent window and pooling that turn its scores into rows.
    """

    name: ClassVar[str]
    needs_soft_tokens: ClassVar[bool] = False
    needs_response: ClassVar[bool] = False

    selection: Selection = Selection()

    @property
    def uses_soft_tokens(self) -> bool:
        """Soft tokens must be at hand: it asks with them, or what they have learned splits its budget."""
        return self.needs_soft_tokens or self.selection.needs_profile

    @property
    def writer(self) -> Method | None:
        """Who writes the response that is needed, at the same budget; None is the full cache."""
        return None

    @property
    def response_tokens(self) -> int | None:
        """How long that response is; None is the whole answer."""
        return None

    @property
    def prompt_queries(self) -> int | None:
        """How many of the prompt's last queries its score looks at; None is all of them, as `accumulated_attention`.

        A prompt that is read in several passes keeps so many for the last one.
        """
        return 0

    @abstractmethod
    def score(self, view: LayerView) -> Tensor | None:
        """Importance (B, H_kv, T) float32, higher = keep; None keeps every row."""
