"""The protocol of an eviction method: look at one layer after its attention, score the prompt's rows.

A method keeps no state between layers or calls; everything it may look at is in the `LayerView`. While an answer is
being written the rows can be judged again, head by head (`judgeq.inference.decode_eviction`). Then those that are held,
of prompt and answer, stand where the prompt's usually do: "prompt" below means what is judged.
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
from judgeq.methods.look import Look
from judgeq.methods.scoring import accumulated_attention, mean_attention, output_norms
from judgeq.objects import brief
from judgeq.values import settle

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
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
        ages: (T,) int64, tokens that have passed since each row, itself included; None = nothing was evicted before.
        earlier: (B, H_kv, T) scores that the rows had when they were last judged, 0 for newer rows; None = never.
        draw: a number of this judgement, different for each head; 0 where the prompt is judged.
        prompts: a number for each prompt of the batch, made of its tokens alone; empty in a second pass.
    """

    __repr__ = brief

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
    ages: Tensor | None = None
    earlier: Tensor | None = None
    draw: int = 0
    prompts: tuple[int, ...] = ()
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

    @property
    def prompt_queries(self) -> int:
        """Queries of this pass that are the prompt's, its last ones."""
        return self.queries.shape[2] - self.response_tokens - self.soft_tokens

    def soft_attention(self) -> Tensor:
        """Attention of the soft tokens to the prompt, averaged over them: (B, H_kv, G, T)."""
        first = self.keys.shape[2] - self.soft_tokens
        return self.once("soft", lambda: self._attention(first, self.soft_tokens, self.offsets))

    def response_attention(self) -> Tensor:
        """Attention of the response to the prompt, averaged over its tokens: (B, H_kv, G, T)."""
        return self.once("response", lambda: self._attention(self.prompt_tokens, self.response_tokens))

    def window_attention(self, window: int) -> Tensor:
        """Attention of the last `window` prompt queries to the prompt, averaged over them: (B, H_kv, G, T).

        Where rows are judged again, of the last ones since the last judgement.
        """
        window = min(window, self.prompt_queries if self._again else self.prompt_tokens)
        return self.once(("window", window), lambda: self._attention(self.prompt_tokens - window, window))

    def accumulated_attention(self) -> Tensor:
        """Attention of the prompt queries to the prompt, summed over them: (B, H_kv, G, T).

        Of all of them; of those since the last judgement where rows are judged again.
        """
        return self.once("accumulated", self._accumulated)

    def value_norms(self) -> Tensor:
        """What each row's value can add to the hidden states: (B, H_kv, T) float32, see `scoring.output_norms`."""
        return self.once("values", lambda: output_norms(self.prompt_rows[1], self.output_weight()))

    @property
    def _again(self) -> bool:
        """Rows are judged again: older queries are gone for good, and what they found is in `earlier`."""
        return self.ages is not None

    @property
    def _before(self) -> int:
        """Rows in front of this pass, whose queries are gone: the position of its first query."""
        return self.keys.shape[2] - self.queries.shape[2]

    def _accumulated(self) -> Tensor:
        before = self._before
        queries, keys = self.queries[:, :, : self.prompt_queries], self.keys[:, :, : self.prompt_tokens]
        found = accumulated_attention(queries, keys, self.scaling, softcap=self.softcap)
        if self._again or not before:
            return found
        if self.carried is None or self.carried.shape[-1] != before:
            raise InputError(
                f"The first {before:,} tokens were read before and the attention that they paid was not added up: give "
                "the method the property queries_needed, with the value None"
            )
        return found + F.pad(self.carried, (0, self.prompt_tokens - before))

    def _attention(self, first: int, count: int, added: Tensor | None = None) -> Tensor:
        at = first - self._before
        if at < 0:
            raise InputError(
                f"The last {self.prompt_tokens - first:,} tokens of the prompt are looked at and the last pass has "
                f"read {self.prompt_queries:,}: give the method the property queries_needed, with that number"
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
        title: its name in pages and figures; empty = `name`.
        phrase: its name inside a sentence, such as `"the full cache"`; empty = `title`.
        summary: what it keeps, in one line.
        look: how it is drawn; None = a spare one.
        needs_soft_tokens: soft tokens must stand at the end.
        needs_response: an answer, or how it begins, must stand behind the prompt: a second pass.
        attention: its scores are attention, which can be compared between heads and weighed with values.
        version: counts up when it scores otherwise, so that no answers of both are mixed.
        idle: fields of the selection that would do nothing for it.
        selection: sinks, recent window and pooling that turn its scores into rows.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    phrase: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    look: ClassVar[Look | None] = None
    needs_soft_tokens: ClassVar[bool] = False
    needs_response: ClassVar[bool] = False
    attention: ClassVar[bool] = True
    version: ClassVar[int] = 1
    idle: ClassVar[frozenset[str]] = frozenset()

    selection: Selection = Selection()

    def __post_init__(self) -> None:
        """Read the options, and refuse those that make no sense for this method.

        Raises:
            InputError: a value of another type, or an option without effect or meaning.
        """
        settle(self)
        own, usual = self.selection, type(self).selection
        if not self.attention and own.value_aware:
            raise InputError(
                f"Selection.value_aware is True and the scores of {self.name} are no attention that values could "
                "weigh: leave it out"
            )
        if not self.attention and own.adapts:
            raise InputError(
                f"Selection.allocation is {own.allocation!r} and the scores of {self.name} are no attention, so its "
                "heads cannot compete: leave adakv out"
            )
        for name in sorted(self.idle):
            if getattr(own, name) != getattr(usual, name):
                raise InputError(
                    f"Selection.{name} is {getattr(own, name)!r} and does nothing for {self.name}: leave it out"
                )

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
    def queries_needed(self) -> int | None:
        """How many of the prompt's last queries its score looks at; 0 is none, None all.

        A prompt that is read in several passes has so many of them in the last one, and for None the sums of
        `accumulated_attention` are carried along. Where rows are judged again so many are remembered meanwhile.
        None costs most and leaves no score wrong, which makes it the default.
        """
        return None

    @abstractmethod
    def score(self, view: LayerView) -> Tensor | None:
        """Importance (B, H_kv, T) float32, higher = keep; None keeps every row."""
