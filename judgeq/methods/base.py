"""The protocol of an eviction method: score the prompt's rows of one layer, after its attention.

A method keeps no state between layers or calls; everything it may use is in the `LayerView`. Rows can be evicted again
while an answer is written, head by head (`judgeq.inference.decode_eviction`). Then "prompt" below means all rows that
are stored, of prompt and answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch.nn.functional as F
from torch import Tensor

from judgeq.attention.call import AttentionCall
from judgeq.config import Selection, check_at_least
from judgeq.errors import InputError
from judgeq.methods.scoring import (
    LARGEST,
    Aggregation,
    accumulated_attention,
    attention_to_prompt,
    output_norms,
)
from judgeq.objects import brief
from judgeq.values import settle

Found = TypeVar("Found")


def _unknown_rotation(queries: Tensor, future: int) -> Tensor:
    raise InputError("This pass knows nothing of its model's rotation: give the LayerView a rotate_ahead")


@dataclass(frozen=True, eq=False)
class LayerView(AttentionCall):
    """One layer of a prefill, between its attention and its eviction: an `AttentionCall` and what is known around it.

    Of the keys and values, (B, H_kv, K, D), the first `prompt_tokens` are the prompt's and the last `Q` those of this
    pass. Layers with a sliding window have only the window's rows of the prompt in a second pass.

    Attributes:
        prompt_tokens: `T`.
        response_tokens: `R`, tokens of an answer that follow the prompt; 0 = none.
        soft_tokens: `S`, the soft tokens that end this pass; 0 = none.
        offsets: (H, S, D), added to the soft tokens' queries where they score; None = none.
        prefix_attention: (B, H_kv, G, c) float32, the attention that the `c` tokens before this pass paid one another,
            summed; None where no method needs it, or there are none.
        row_ages: (T,) int64, tokens that have passed since each row, itself included; None in a prefill.
        previous_scores: (B, H_kv, T) scores of the rows at the previous eviction, 0 for newer rows, or by the replays
            before this one; None = no scores.
        replayed: first row and end of the part of the prompt that the response repeats; None = it repeats none.
        input_norms: (B, Q) float32, L2 norms of the hidden states that this layer's attention read; None where no
            method weighs by them.
        draw_id: a number of this eviction, different for each head; 0 in a prefill.
        rotate_ahead: gives queries (B, H, Q, D) of this pass's last prompt tokens as they would be, on average, at so
            many later positions, float32; see `models.rope.rotate_ahead`.
        prompt_hashes: a number for each prompt of the batch, computed from its tokens; empty in a second pass.
    """

    __repr__ = brief

    prompt_tokens: int
    response_tokens: int = 0
    soft_tokens: int = 0
    offsets: Tensor | None = None
    prefix_attention: Tensor | None = None
    row_ages: Tensor | None = None
    previous_scores: Tensor | None = None
    draw_id: int = 0
    replayed: tuple[int, int] | None = None
    input_norms: Tensor | None = None
    rotate_ahead: Callable[[Tensor, int], Tensor] = _unknown_rotation
    prompt_hashes: tuple[int, ...] = ()
    _cache: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def cached(self, key: Hashable, compute: Callable[[], Found]) -> Found:
        """What `compute` returns, memoised by `key` for this layer: methods and budgets share it."""
        if key not in self._cache:
            self._cache[key] = compute()
        return self._cache[key]

    @property
    def prompt_rows(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the prompt, (B, H_kv, T, D), without those of a response and of soft tokens."""
        rows = self.keys.shape[2] - self.response_tokens - self.soft_tokens
        return self.keys[:, :, :rows], self.values[:, :, :rows]

    @property
    def prompt_queries(self) -> int:
        """Queries of this pass that are the prompt's, its last ones."""
        return self.queries.shape[2] - self.response_tokens - self.soft_tokens

    def soft_attention(self, how: Aggregation = "mean") -> Tensor:
        """Attention of the soft tokens to the prompt, averaged over them: (B, H_kv, G, T).

        Args:
            how: `largest` and `defensive` take the largest instead of the mean, here and below.
        """
        first = self.keys.shape[2] - self.soft_tokens
        return self._attention(first, self.soft_tokens, how, self.offsets)

    def response_attention(self, how: Aggregation = "mean") -> Tensor:
        """Attention of the response to the prompt, averaged over its tokens: (B, H_kv, G, T)."""
        return self._attention(self.prompt_tokens, self.response_tokens, how)

    def window_attention(self, window: int, how: Aggregation = "mean") -> Tensor:
        """Attention of the last `window` prompt queries to the prompt, averaged over them: (B, H_kv, G, T).

        While an answer is written only the queries since the previous eviction are at hand.
        """
        window = min(window, self.prompt_tokens if self.row_ages is None else self.prompt_queries)
        return self._attention(self.prompt_tokens - window, window, how)

    def accumulated_attention(self) -> Tensor:
        """Attention of all prompt queries to the prompt, summed over them: (B, H_kv, G, T).

        While an answer is written only the queries since the previous eviction count.
        """
        return self.cached("accumulated", self._accumulated)

    def value_norms(self) -> Tensor:
        """How much each row's value can add to the hidden states: (B, H_kv, T) float32, see `scoring.output_norms`."""
        return self.cached("values", lambda: output_norms(self.prompt_rows[1], self.output_weight()))

    @property
    def _first_query(self) -> int:
        """Position of this pass's first query among the rows; the queries of earlier rows are gone."""
        return self.keys.shape[2] - self.queries.shape[2]

    def _accumulated(self) -> Tensor:
        first = self._first_query
        queries, keys = self.queries[:, :, : self.prompt_queries], self.keys[:, :, : self.prompt_tokens]
        found = accumulated_attention(queries, keys, self.scaling, softcap=self.softcap)
        if self.row_ages is not None or not first:
            return found
        if self.prefix_attention is None or self.prefix_attention.shape[-1] != first:
            raise InputError(
                f"The first {first:,} tokens were read before and the attention that they paid was not added up: give "
                "the method the property queries_needed, with the value None"
            )
        return found + F.pad(self.prefix_attention, (0, self.prompt_tokens - first))

    def _attention(self, first: int, count: int, how: Aggregation, added: Tensor | None = None) -> Tensor:
        """Of the queries of `count` tokens from `first` on, their mean or the largest."""
        largest = how in LARGEST

        def over_queries() -> Tensor:
            paid = self._paid(first, count, added)  # (B, H_kv, G, count, T)
            return paid.amax(-2) if largest else paid.mean(-2)

        return self.cached((largest, first, count, added is None), over_queries)

    def _paid(self, first: int, count: int, added: Tensor | None) -> Tensor:
        """Attention of each of `count` tokens from `first` on to the prompt."""
        at = first - self._first_query
        if at < 0:
            raise InputError(
                f"The method scores with the last {self.prompt_tokens - first:,} tokens of the prompt and the last "
                f"pass has read {self.prompt_queries:,}: give the method the property queries_needed, with that number"
            )
        queries = self.queries[:, :, at : at + count]
        if added is not None:
            queries = queries + added.to(queries)
        keys = self.keys[:, :, : first + count]
        return attention_to_prompt(queries, keys, self.scaling, first, self.prompt_tokens, self.softcap)


@dataclass(frozen=True)
class Look:
    """How one method is drawn; dash and marker identify it without colour.

    Attributes:
        color: `#rrggbb`, with a contrast of at least 3 on light and on dark paper.
        dash: a list of lengths, as Plotly and SVG both read it; `"solid"` for none.
        symbol: Plotly's name of the marker.
    """

    color: str
    dash: str
    symbol: str


@dataclass(frozen=True)
class Method(ABC):
    """An eviction method. Implementations are small frozen dataclasses of hashable fields, registered by name.

    Attributes:
        name: how a person calls it, such as `"snapkv"`.
        title: its name in pages and figures; empty = `name`.
        phrase: its name inside a sentence, such as `"the full cache"`; empty = `title`.
        summary: what it keeps, in one line.
        look: how it is drawn; None = a spare one of `judgeq.evaluation.report.styles`.
        needs_soft_tokens: it scores with trained soft tokens, appended to the pass.
        needs_response: it scores with an answer, or the beginning of one, in a second pass after the prompt.
        replays: it scores with a replay of a document, in second passes before any question is known.
        weighs: it weighs those scores by `LayerView.input_norms`.
        attention: its scores are attention, which can be compared between heads and weighted by values.
        same_rows: all KV heads of a layer keep the same rows, by the mean of what they score.
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
    replays: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    attention: ClassVar[bool] = True
    same_rows: ClassVar[bool] = False
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
        if self.same_rows and (own.value_aware or own.adapts or own.needs_profile):
            raise InputError(
                f"All heads of a layer keep the same rows with {self.name}, which value_aware and the allocations "
                "adakv and profile would not allow: leave them out"
            )
        if self.appended_text and own.memory:
            raise InputError(
                f"Selection.memory is {own.memory} and {self.name} has no memory tokens, which are trained with soft "
                "tokens: leave it out, or choose judgeq"
            )
        for name in sorted(self.idle):
            if getattr(own, name) != getattr(usual, name):
                raise InputError(
                    f"Selection.{name} is {getattr(own, name)!r} and does nothing for {self.name}: leave it out"
                )

    @property
    def appended_text(self) -> str:
        """A text whose tokens it scores with in place of trained soft tokens; empty = none."""
        return ""

    @property
    def appends(self) -> bool:
        """Whether it scores with soft tokens, trained ones or those of a text."""
        return self.needs_soft_tokens or bool(self.appended_text)

    @property
    def uses_soft_tokens(self) -> bool:
        """Whether it scores with trained soft tokens, or needs the memory tokens or the profile that come with them."""
        return self.needs_soft_tokens or self.selection.needs_profile or bool(self.selection.memory)

    @property
    def for_decoding(self) -> bool:
        """Whether it was made for eviction while an answer is written, and says little of a prompt alone."""
        return False

    @property
    def writer(self) -> Method | None:
        """The method whose rows, at the same budget, the response is written with; None = the full cache."""
        return None

    @property
    def response_tokens(self) -> int | None:
        """Length of that response; None = the whole answer."""
        return None

    @property
    def replay_chunk(self) -> int:
        """Most tokens of the document that one replay repeats."""
        return 0

    @property
    def queries_needed(self) -> int | None:
        """How many of the prompt's last queries it scores with; None = all.

        The last of several passes over a prompt reads at least so many tokens, and for None the sums of
        `accumulated_attention` are kept from pass to pass. So many queries are also kept between two evictions while an
        answer is written. None costs most and is always correct, which makes it the default.
        """
        return None

    @abstractmethod
    def score(self, view: LayerView) -> Tensor | None:
        """Importance (B, H_kv, T) float32, higher = keep; None keeps every row."""


@dataclass(frozen=True)
class DraftMethod(Method):
    """A method that scores with the beginning of an answer.

    Attributes:
        draft: tokens that are written for it.
    """

    needs_response = True
    draft: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(type(self).__name__, "draft", self.draft, 1)

    @property
    def response_tokens(self) -> int:
        return self.draft
