"""What one method kept of one prompt, per layer and KV head, tied to the characters of the document.

Arrays and text only: needs neither torch nor a model, so that a map can be stored, sent and shown anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from judgeq.errors import InputError
from judgeq.objects import brief
from judgeq.retention import difference, exchange, explanation, presentation
from judgeq.retention.checks import check_span, checked_rows, is_index, stacked_scores
from judgeq.retention.explanation import Explanation
from judgeq.retention.presentation import Metric
from judgeq.retention.units import Granularity, unit_values
from judgeq.values import whole_numbers

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from judgeq.inference.plan import Retained
    from judgeq.models.language_model import LanguageModel
    from judgeq.prompts.prompt import Prompt


@dataclass(frozen=True, eq=False)
class RetentionMap:
    """Kept rows and scores of one prompt.

    Attributes:
        method, model: names.
        budget: rows per KV head that the budget came to.
        text: the whole prompt, chat template included.
        offsets: T character spans in `text`, one a token; tokens that share a character overlap.
        document: character span of the document in `text`.
        kept: `[layer][head]`, ascending int32 row indices; heads may keep different numbers of rows.
        scores: (L, H_kv, T) float32 before pooling and before values count, higher = keep; NaN for layers and tokens
            that were not scored, None where nothing was scored.
        query_aware: the question was visible when rows were chosen.
    """

    __repr__ = brief

    method: str
    model: str
    budget: int
    text: str = field(repr=False)
    offsets: tuple[tuple[int, int], ...] = field(repr=False)
    document: tuple[int, int]
    kept: tuple[tuple[np.ndarray, ...], ...] = field(repr=False)
    scores: np.ndarray | None = field(default=None, repr=False)
    query_aware: bool = True

    def __post_init__(self) -> None:
        (budget,) = whole_numbers("RetentionMap.budget", [self.budget])
        object.__setattr__(self, "budget", budget)
        object.__setattr__(self, "document", whole_numbers("RetentionMap.document", self.document))
        if len(self.offsets) == 0 or not self.kept or not self.kept[0] or len(self.document) != 2:
            raise InputError(
                "RetentionMap needs at least one token, one layer, one KV head and a span (first, last)"
            )
        if not 0 <= self.document[0] <= self.document[1] <= len(self.text):
            raise InputError(
                f"RetentionMap.document is {self.document!r}: give a span inside the prompt's text"
            )
        spans = np.asarray(self.offsets)
        inside = spans.shape == (self.tokens, 2) and spans.min() >= 0 and spans.max() <= len(self.text)
        if not inside or (spans[:, 0] > spans[:, 1]).any():
            raise InputError("RetentionMap.offsets must be pairs (first, last) inside the prompt's text")
        kept = tuple(tuple(checked_rows(rows, self.tokens) for rows in layer) for layer in self.kept)
        if len({len(layer) for layer in kept}) > 1:
            raise InputError("RetentionMap.kept must have as many KV heads in every layer")
        object.__setattr__(self, "kept", kept)
        if self.scores is not None:
            scores = np.asarray(self.scores, dtype=np.float32)
            if scores.shape != (self.layers, self.kv_heads, self.tokens):
                raise InputError(
                    f"RetentionMap.scores has shape {scores.shape}: give (layers, KV heads, tokens) = "
                    f"{(self.layers, self.kv_heads, self.tokens)}"
                )
            object.__setattr__(self, "scores", scores)

    @classmethod
    def from_retained(
        cls, lm: LanguageModel, prompt: Prompt, retained: Retained, *, query_aware: bool = True
    ) -> RetentionMap:
        """Tie what a prefill kept to the prompt's characters.

        A layer with a sliding window of its own holds the rows of that window, which is what the map says of it.

        Raises:
            InputError: more than one prompt in the batch.
        """
        layers = retained.cache.layers
        batch = max(layer.keys.shape[0] for layer in layers)
        if batch > 1:
            raise InputError(
                f"A retention map shows one prompt and this batch has {batch}: prefill them one by one"
            )
        tokens = prompt.tokens
        kept = []
        for rows, layer in zip(retained.kept, layers, strict=True):
            if rows is None:
                window = layer.sliding_window - 1 if layer.is_sliding else tokens
                every = np.arange(max(0, tokens - window), tokens, dtype=np.int32)
                kept.append((every,) * layer.keys.shape[1])
            else:
                heads = rows if isinstance(rows, tuple) else rows[0]
                kept.append(tuple(head.numpy().astype(np.int32) for head in heads))
        return cls(
            method=retained.plan.method.name,
            model=lm.name,
            budget=retained.plan.budget,
            text=prompt.text,
            offsets=tuple((int(first), int(last)) for first, last in prompt.offsets),
            document=prompt.document,
            kept=tuple(kept),
            scores=stacked_scores([None if score is None else score[0].numpy() for score in retained.scores]),
            query_aware=query_aware,
        )

    @property
    def tokens(self) -> int:
        """`T`, the prompt's length in tokens."""
        return len(self.offsets)

    @property
    def layers(self) -> int:
        """`L`."""
        return len(self.kept)

    @property
    def kv_heads(self) -> int:
        """`H_kv`."""
        return len(self.kept[0])

    @property
    def document_text(self) -> str:
        """The document as the model read it."""
        return self.text[slice(*self.document)]

    @property
    def kept_rows(self) -> np.ndarray:
        """(L, H_kv) int64, the number of rows that each head keeps."""
        return np.array([[len(rows) for rows in layer] for layer in self.kept])

    @cached_property
    def document_tokens(self) -> range:
        """Tokens that hold at least one character of the document."""
        return self.tokens_at(0, self.document[1] - self.document[0])

    def tokens_at(self, start: int, end: int) -> range:
        """Tokens that hold at least one character of a span of the document; positions count from its start."""
        spans = np.asarray(self.offsets) - self.document[0]
        shared = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], start)  # characters
        found = np.flatnonzero(shared > 0)
        return range(int(found[0]), int(found[-1]) + 1) if len(found) else range(0)

    def rows_of(self, layer: int | None = None, head: int | None = None) -> list[np.ndarray]:
        """The kept rows of every (layer, head) pair, or of those in one layer or of one KV head.

        Raises:
            InputError: no such layer or head.
        """
        for name, value, length in (("layer", layer, self.layers), ("head", head, self.kv_heads)):
            if value is not None and not is_index(value, length):
                raise InputError(
                    f"{name} is {value!r}: give a whole number from 0 to {length - 1}, or None for all"
                )
        layers = self.kept if layer is None else self.kept[layer : layer + 1]
        return [rows for kept in layers for rows in (kept if head is None else kept[head : head + 1])]

    def share_kept(self, layer: int | None = None, head: int | None = None) -> np.ndarray:
        """(T,) float64: for each token, the share of (layer, head) pairs that keep it.

        Args:
            layer, head: count in this layer, or with this KV head of each layer, only.

        Raises:
            InputError: no such layer or head.
        """
        chosen = self.rows_of(layer, head)
        return np.bincount(np.concatenate(chosen), minlength=self.tokens) / len(chosen)

    def layer_profile(self, bins: int) -> np.ndarray:
        """(L, bins) float64: share of rows kept in each layer and each of `bins` equal stretches of the prompt.

        Raises:
            InputError: fewer than one bin, or more bins than tokens.
        """
        edges = self.bin_edges(bins)
        shares = np.stack([self.share_kept(layer=layer) for layer in range(self.layers)])
        return np.add.reduceat(shares, edges[:-1], axis=1) / np.diff(edges)

    def bin_edges(self, bins: int) -> np.ndarray:
        """(bins + 1,) int64 token positions where `layer_profile`'s bins begin; the last one is `T`."""
        if not is_index(bins, self.tokens + 1) or bins < 1:
            raise InputError(
                f"bins is {bins!r}: give a whole number from 1 to {self.tokens}, the prompt's tokens"
            )
        return np.linspace(0, self.tokens, bins + 1).astype(np.int64)

    def units(
        self, granularity: Granularity = "word", layer: int | None = None, head: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The document's tokens, words, sentences or paragraphs, and the share of heads that keeps each.

        A token or a word counts with its best-kept token, a sentence or a paragraph with the mean over its tokens;
        see `judgeq.retention.units.unit_values`.

        Returns:
            (n, 2) int64 disjoint ascending character spans in the document, and (n,) float64 shares.
        """
        inside = self.document_tokens
        start, end = self.document
        offsets = np.asarray(self.offsets[inside.start : inside.stop], dtype=np.int64).reshape(-1, 2)
        share = self.share_kept(layer, head)[inside.start : inside.stop]
        return unit_values(self.document_text, offsets.clip(start, end) - start, share, granularity)

    def survival(self, start: int, end: int) -> np.ndarray:
        """(L,) float64: share of a span's tokens x KV heads that stay in each layer; the mean is that of all layers.

        Args:
            start, end: characters, counted from the document's start; tokens that hold at least one of them count.

        Raises:
            InputError: no such span in the document, or no token in it.
        """
        tokens = check_span(self, start, end)
        shares = [self.share_kept(layer)[tokens.start : tokens.stop].mean() for layer in range(self.layers)]
        return np.array(shares)

    def explain(self, start: int, end: int, layer: int | None = None, head: int | None = None) -> Explanation:
        """Why a span of the document stays or goes: how many heads keep it, the rank of its score and its margin.

        Args:
            start, end: characters, counted from the document's start; tokens that hold at least one of them count.
            layer, head: look at this layer, or at this KV head of each layer, only.

        Raises:
            InputError: no such span, layer or head.
        """
        return explanation.explain(self, presentation.title(self), start, end, layer, head)

    def to_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back. The format is described in `judgeq.retention.exchange`.

        Args:
            scores: include the scores, rounded to four significant digits.
        """
        return exchange.to_json(self, scores)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RetentionMap:
        """Build from `to_json()`'s output.

        Raises:
            InputError: another format, or values that do not fit together.
        """
        return cls(**exchange.fields_from_json(values))

    def to_html(
        self,
        layer: int | None = None,
        granularity: Granularity = "word",
        *,
        head: int | None = None,
        reading: bool = False,
    ) -> str:
        """The document, marked by how many heads keep each unit, as a self-contained HTML fragment without scripts.

        Args:
            layer, head: count in this layer, or with this KV head of each layer, only.
            granularity: what is marked as one; see `units`.
            reading: add the figures of every unit, for a page with a script that tells them.
        """
        return presentation.to_html(self, granularity, layer, head, reading)

    def difference_html(
        self,
        other: RetentionMap,
        layer: int | None = None,
        granularity: Granularity = "word",
        *,
        head: int | None = None,
        reading: bool = False,
    ) -> str:
        """The document, marked by which of two methods keeps each unit; arguments as in `to_html`.

        A unit counts as kept where at least as many heads keep it as keep an average token of the prompt.

        Raises:
            InputError: the other map is of another prompt or model.
        """
        return difference.to_html(self, other, granularity, layer, head, reading)

    def to_figure(self, metric: Metric = "kept") -> Figure:
        """A Plotly heatmap, layer x position, in at most 200 bins.

        Args:
            metric: `"kept"`, the share of the bin's rows that the layer's KV heads keep; or `"score"`, the bin's best
                score relative to the layer's mean, both averaged over heads.

        Raises:
            InputError: an unknown metric, or no scores.
        """
        return presentation.to_figure(self, metric)

    def to_head_figure(self) -> Figure:
        """A Plotly heatmap, layer x KV head, of the rows that each head keeps."""
        return presentation.to_head_figure(self)

    def show(self, layer: int | None = None) -> None:
        """Show the map: text and heatmap in a notebook, marked text in a terminal.

        Where the output knows no styles, brackets stand around what more than a quarter of the heads keep.
        """
        presentation.show(self, layer)

    def _repr_html_(self) -> str:
        return self.to_html()
