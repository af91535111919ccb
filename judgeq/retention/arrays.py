"""What one method kept of one prompt: rows and scores per layer and KV head, tied to the document's characters.

Arrays and text only: needs neither torch nor a model, so that a map can be stored, sent and shown anywhere. Knows
nothing of how it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import numpy as np

from judgeq.errors import InputError
from judgeq.objects import brief
from judgeq.retention.lost import Lost, Occurrences
from judgeq.retention.units import Granularity, is_word, unit_values
from judgeq.values import whole, whole_numbers

FORMAT = "judgeq.retention/1"


@dataclass(frozen=True, eq=False)
class KeptRows:
    """Rows and scores that one method kept of one prompt.

    Attributes:
        method, model: names.
        budget: the budget in rows per KV head.
        text: the whole prompt, chat template included.
        offsets: T character spans in `text`, one per token; tokens that share a character overlap.
        document: character span of the document in `text`.
        kept: `[layer][head]`, ascending int32 row indices; heads may keep different numbers of rows.
        scores: (L, H_kv, T) float32 before pooling and before values count, higher = keep; NaN for layers and tokens
            that were not scored, None where nothing was scored.
        query_aware: the question was visible when rows were chosen.
        title: the method's name inside a sentence, such as `"the full cache"`; empty = `method`.
        memory_rows: rows that each head stores beside these, of memory tokens; none in layers where all rows are kept.
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
    title: str = field(default="", repr=False)
    memory_rows: int = field(default=0, repr=False)

    def __post_init__(self) -> None:
        for name in ("budget", "memory_rows"):
            (number,) = whole_numbers(f"RetentionMap.{name}", [getattr(self, name)])
            object.__setattr__(self, name, number)
        object.__setattr__(self, "document", whole_numbers("RetentionMap.document", self.document))
        if len(self.offsets) == 0 or not self.kept or not self.kept[0] or len(self.document) != 2:
            raise InputError("RetentionMap needs at least one token, one layer, one KV head and a span (first, last)")
        if not 0 <= self.document[0] <= self.document[1] <= len(self.text):
            raise InputError(f"RetentionMap.document is {self.document!r}: give a span inside the prompt's text")
        spans = np.asarray(self.offsets)
        inside = spans.shape == (self.tokens, 2) and spans.min() >= 0 and spans.max() <= len(self.text)
        if not inside or (spans[:, 0] > spans[:, 1]).any():
            raise InputError("RetentionMap.offsets must be pairs (first, last) inside the prompt's text")
        kept = tuple(tuple(_checked_rows(rows, self.tokens) for rows in layer) for layer in self.kept)
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

    def tokens_of(self, start: int, end: int) -> range:
        """As `tokens_at`, for a span from outside.

        Raises:
            InputError: no such span in the document, or no token in it.
        """
        length = self.document[1] - self.document[0]
        if not (_is_index(start, length) and _is_index(end, length + 1) and start < end):
            raise InputError(
                f"The span is {start!r} to {end!r}: give two whole numbers from 0 to {length}, the document's "
                "characters, the smaller one first"
            )
        tokens = self.tokens_at(start, end)
        if not tokens:
            raise InputError("No token of the prompt lies in this span: give one that holds words of the document")
        return tokens

    def text_of(self, first: int, last: int) -> str:
        """The prompt's characters covered by tokens `first` to `last - 1`."""
        spans = self.offsets[first:last]
        return self.text[min(start for start, _ in spans) : max(end for _, end in spans)]

    def rows_of(self, layer: int | None = None, head: int | None = None) -> list[np.ndarray]:
        """The kept rows of every (layer, head) pair, or of those in one layer or of one KV head.

        Raises:
            InputError: no such layer or head.
        """
        for name, value, length in (("layer", layer, self.layers), ("head", head, self.kv_heads)):
            if value is not None and not _is_index(value, length):
                raise InputError(f"{name} is {value!r}: give a whole number from 0 to {length - 1}, or None for all")
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

    def lost_everywhere(self, answer: str) -> Lost:
        """How much of an answer stands in the document and is kept by no head of any layer.

        Near 90 % of rows removed, answers break where a token is gone from every head (arXiv 2603.01426). What counts:

        - *Words of the answer* that also occur in the document as whole words, without regard to case. Punctuation and
          white space are no words, and special tokens are not in the document.
        - *Tokens*, the document's own: those that share a character with such an occurrence. A word that the answer
          repeats counts again.
        - *Every occurrence* in the document: the one with the fewest lost tokens stands for the word, so that a word is
          lost only where each of its occurrences has lost something. The same word in the question does not count.
        - *Every layer*: one with a sliding window keeps the rows of that window, and where a layer keeps every row
          nothing is lost. Memory rows hold no token.

        The document may still be known where its row is gone, since later rows have read it: an upper bound of what
        is missing, not a proof.

        Args:
            answer: any text, such as the full cache's answer.
        """
        inside = self.document_tokens
        kept = np.zeros(self.tokens, dtype=bool)
        kept[np.concatenate(self.rows_of())] = True
        start, end = self.document
        offsets = np.asarray(self.offsets[inside.start : inside.stop], dtype=np.int64).reshape(-1, 2)
        occurrences = Occurrences(self.document_text, offsets.clip(start, end) - start, answer)
        return occurrences.lost(kept[inside.start : inside.stop])

    def layer_profile(self, bins: int) -> np.ndarray:
        """(L, bins) float64: share of rows kept in each layer and each of `bins` equal stretches of the prompt.

        Raises:
            InputError: fewer than one bin, or more bins than tokens.
        """
        edges = self.bin_edges(bins)
        shares = np.stack([self.share_kept(layer=layer) for layer in range(self.layers)])
        return np.add.reduceat(shares, edges[:-1], axis=1) / np.diff(edges)

    def score_profile(self, bins: int) -> np.ndarray:
        """(L, bins) log10 of the best score in a bin over the layer's mean, both averaged over heads.

        Raises:
            InputError: the method has no scores, or as in `layer_profile`.
        """
        if self.scores is None:
            raise InputError(f"The method {self.method!r} scores nothing: draw metric='kept' instead")
        known = ~np.isnan(self.scores)
        lowest = np.fmin.reduce(self.scores, axis=(1, 2), keepdims=True)
        scores = self.scores - np.minimum(lowest, 0)  # some methods score below zero
        best = np.fmax.reduceat(scores, self.bin_edges(bins)[:-1], axis=2).mean(axis=1)
        mean = scores.sum(axis=(1, 2), where=known)[:, None] / np.maximum(known.sum(axis=(1, 2)), 1)[:, None]
        ratio = np.divide(best, mean, out=np.full_like(best, np.nan), where=mean > 0)
        return np.log10(np.clip(ratio, 0.01, 100))

    def bin_edges(self, bins: int) -> np.ndarray:
        """(bins + 1,) int64 token positions where `layer_profile`'s bins begin; the last one is `T`."""
        if not _is_index(bins, self.tokens + 1) or bins < 1:
            raise InputError(f"bins is {bins!r}: give a whole number from 1 to {self.tokens}, the prompt's tokens")
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

    def words_among(self, spans: np.ndarray) -> np.ndarray:
        """(n,) bool: whether each (n, 2) span of the document is a word, not punctuation."""
        text = self.document_text
        return np.array([is_word(text[first:last]) for first, last in spans.tolist()], dtype=bool)

    def survival(self, start: int, end: int) -> np.ndarray:
        """(L,) float64: share of a span's tokens x KV heads that each layer keeps; the mean is that of all layers.

        Args:
            start, end: characters, counted from the document's start; tokens that hold at least one of them count.

        Raises:
            InputError: no such span in the document, or no token in it.
        """
        tokens = self.tokens_of(start, end)
        shares = [self.share_kept(layer)[tokens.start : tokens.stop].mean() for layer in range(self.layers)]
        return np.array(shares)

    def check_same_prompt(self, other: KeptRows) -> None:
        """Raise an `InputError` unless both maps are of one prompt and model."""
        ours, theirs = ((each.text, each.offsets, each.document, each.layers, each.kv_heads) for each in (self, other))
        if ours != theirs:
            raise InputError("The two maps are not of one prompt that one model has read: compare methods of one run")

    def to_json(self, *, scores: bool = False) -> dict[str, Any]:
        """Plain JSON values; `from_json` reads them back.

        `spans` are character positions counted from the start of `document`, in code points: negative in `before`,
        beyond the document in `after`. `kept` is `[layer][head]`, ascending token indices.

        Args:
            scores: include the scores, rounded to four significant digits.
        """
        start, end = self.document
        values: dict[str, Any] = {
            "format": FORMAT,
            "method": self.method,
            "title": self.title,
            "model": self.model,
            "budget": self.budget,
            "query_aware": self.query_aware,
            "memory_rows": self.memory_rows,
            "before": self.text[:start],
            "document": self.text[start:end],
            "after": self.text[end:],
            "spans": [[first - start, last - start] for first, last in self.offsets],
            "kept": [[rows.tolist() for rows in layer] for layer in self.kept],
        }
        if scores:
            values["scores"] = None if self.scores is None else _rounded(self.scores)
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Build from `to_json()`'s output.

        Raises:
            InputError: another format, or values that do not fit together.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise InputError(f"This is not a retention map: its format is not {FORMAT!r}")
        try:
            before, document, after = values["before"], values["document"], values["after"]
            start, scores = len(before), values.get("scores")
            fields: dict[str, Any] = {
                "method": str(values["method"]),
                "model": str(values["model"]),
                "budget": int(values["budget"]),
                "text": before + document + after,
                "offsets": tuple((int(first) + start, int(last) + start) for first, last in values["spans"]),
                "document": (start, start + len(document)),
                "kept": tuple(tuple(np.asarray(rows) for rows in layer) for layer in values["kept"]),
                "scores": None if scores is None else np.array(scores, dtype=np.float32),
                "query_aware": bool(values.get("query_aware", True)),
                "title": str(values.get("title", "")),
                "memory_rows": int(values.get("memory_rows", 0)),
            }
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"The retention map cannot be read: {error!r}") from error
        return cls(**fields)


def stacked_scores(scores: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """(L, H_kv, T), NaN for layers without scores; None if no layer has any."""
    known = [score for score in scores if score is not None]
    if not known:
        return None
    return np.stack([np.full_like(known[0], np.nan) if score is None else score for score in scores])


def _checked_rows(rows: Sequence[int] | np.ndarray, tokens: int) -> np.ndarray:
    """Row indices as a read-only int32 array."""
    found = np.asarray(rows)
    if found.size == 0:
        found = found.astype(np.int32)
    is_whole = found.ndim == 1 and found.dtype.kind in "iu"
    ascending = is_whole and bool((found[1:] > found[:-1]).all())
    if not ascending or (found.size and not 0 <= int(found[0]) <= int(found[-1]) < tokens):
        raise InputError(f"RetentionMap.kept must hold ascending whole numbers from 0 to {tokens - 1} per head")
    found = found.astype(np.int32)
    found.setflags(write=False)
    return found


def _is_index(value: object, length: int) -> bool:
    found = whole(value)
    return found is not None and 0 <= found < length


def _rounded(scores: np.ndarray) -> list[Any]:
    """Nested lists with four significant digits; None for NaN."""
    values = scores.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (3 - np.floor(np.log10(np.abs(values))))
        short = np.where((values == 0) | ~np.isfinite(values), values, np.round(values * scale) / scale)
    rounded = short.astype(object)
    rounded[np.isnan(short)] = None
    return rounded.tolist()
