"""What an answer attends to, token by token, tied to the document's characters: the sentences that it leans on.

Arrays and text only, as a retention map. Attention says where the model reads, which is a good hint at where an answer
comes from, and no proof: what a row carries was gathered from the tokens before it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from judgeq.console import say
from judgeq.errors import InputError
from judgeq.look.format import percent, visible
from judgeq.objects import brief
from judgeq.retention import glow
from judgeq.retention.arrays import KeptRows
from judgeq.retention.document_units import DocumentUnits
from judgeq.retention.head_weights import HeadWeights
from judgeq.retention.units import Granularity
from judgeq.values import whole, whole_numbers

MEDIAN_OF = 64
"""First tokens of an answer whose median says where attention rests: more change little and take longer."""


@dataclass(frozen=True)
class Source:
    """A sentence of the document that an answer leans on.

    Attributes:
        text: the sentence.
        start, end: its characters, counted from the document's start.
        share: of the attention that the answer pays to the document.
    """

    text: str
    start: int
    end: int
    share: float


@dataclass(frozen=True, eq=False)
class Attended:
    """What each token of an answer attends to: the pass that chose it, over the rows that were stored then.

    The first token is chosen by the prompt's last one, before anything is evicted. N is the number of tokens with text;
    an end token has none.

    Attributes:
        found: the kept rows, with the prompt's tokens and their characters.
        text: the answer.
        spans: (N, 2) character spans of the tokens in `text`; tokens that only together are text share one.
        weights: (N, T) float32, to each token of the prompt: the mean over layers and query heads.
        memory: (N,) float32, to memory tokens. What is missing to 1 is attention to the answer itself.
        layer, head: only this layer, or this query head of each layer, counts; None = all.
        layers: (N, L, T + 1) float16, what the query heads of each of the model's L layers pay on average, the last
            column to memory tokens; None unless layers were recorded apart.
        heads: what each query head of each layer pays; None unless heads were recorded apart.
    """

    __repr__ = brief

    found: KeptRows = field(repr=False)
    text: str
    spans: np.ndarray
    weights: np.ndarray
    memory: np.ndarray
    layer: int | None = None
    head: int | None = None
    layers: np.ndarray | None = field(default=None, repr=False)
    heads: HeadWeights | None = field(default=None, repr=False)

    @classmethod
    def of_steps(
        cls,
        found: KeptRows,
        texts: Sequence[str],
        vectors: np.ndarray,
        layer: int | None = None,
        head: int | None = None,
        layers: np.ndarray | None = None,
        heads: HeadWeights | None = None,
    ) -> Attended:
        """From what an answer's tokens add to its text, and the attention of all or of the last of them.

        Args:
            texts: one a token; "" where a character is incomplete, or text is withheld.
            vectors: (n, T + 1) float32, to the prompt's tokens and to memory tokens.
            layers: (n, L, T + 1) float16, each layer's.
            heads: each head's, of n tokens.
        """
        ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
        starts = ends - [len(text) for text in texts]
        later = np.searchsorted(ends, starts, side="right")  # the first token that adds text from there on
        count = int(np.searchsorted(later, len(texts)))  # what follows adds none
        spans = np.stack([starts[:count], ends[later[:count]]], axis=1).reshape(-1, 2)
        first = len(texts) - len(vectors)
        written = slice(max(0, count - first))
        own, apart = vectors[written], None if layers is None else layers[written]
        return cls(found, "".join(texts), spans[first:], own[:, :-1], own[:, -1], layer, head, apart, heads)

    def of_layer(self, layer: int, head: int | None = None) -> Attended:
        """What one layer attends to, all its query heads together, or one of them.

        Raises:
            InputError: layers, or heads, were not recorded apart, or there is no such one.
        """
        if self.layers is None:
            raise InputError('The layers were not recorded apart: ask with attended="layers"')
        number = _index("layer", layer, self.layers.shape[1])
        if head is None:
            own = self.layers[:, number].astype(np.float32)
        elif self.heads is None:
            raise InputError('The heads were not recorded apart: ask with attended="heads"')
        else:
            head = _index("query head", head, self.heads.heads)
            own = self.heads.of_head(number, head)[: len(self.spans)]
        weights, memory = own[:, :-1], own[:, -1]
        return replace(self, weights=weights, memory=memory, layer=number, head=head, layers=None, heads=None)

    @property
    def nbytes(self) -> int:
        """Bytes of what is recorded."""
        parts = self.weights, self.layers, self.heads
        return sum(each.nbytes for each in parts if each is not None)

    @cached_property
    def specific(self) -> np.ndarray:
        """(N, T) float32: the attention beyond what a prompt's token gets from the answer's median token.

        Attention sinks, such as the first token and some small words, get about as much from every token, whatever is
        written (arXiv 2309.17453); what a token reads in addition is where it comes from. With fewer than three tokens
        there is no such median, and this is all attention.
        """
        return np.maximum(self.weights - resting(self.weights), 0)

    @property
    def own(self) -> np.ndarray:
        """(N,) float32, attention to the answer's own tokens."""
        return np.clip(1 - self.weights.sum(1) - self.memory, 0, 1)

    def shares(self) -> dict[str, float]:
        """Where the attention goes, the mean over all tokens: four shares that add up to 1.

        `document`; `prompt`, what is around it: the question and the chat template, whose first token takes much in
        most models; `memory`, memory tokens; `answer`, the answer itself.
        """
        if not len(self.spans):
            return {"document": 0.0, "prompt": 0.0, "memory": 0.0, "answer": 0.0}
        inside = self.found.document_tokens
        document = float(self.weights[:, inside.start : inside.stop].sum(1).mean())
        whole_prompt = float(self.weights.sum(1).mean())
        return {
            "document": document,
            "prompt": whole_prompt - document,
            "memory": float(self.memory.mean()),
            "answer": float(self.own.mean()),
        }

    def units(self, granularity: Granularity = "word", *, specific: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The document's words, sentences or paragraphs, and how much each token of the answer attends to each.

        Args:
            specific: of `specific`, not of all attention.

        Returns:
            (n, 2) int64 disjoint ascending character spans in the document, and (N, n) float32, summed over the tokens
            that end in each.

        Raises:
            InputError: an unknown granularity, or `"token"`, for which there is `weights`.
        """
        units = DocumentUnits(self.found, granularity)
        return units.spans, units.sums(self.specific if specific else self.weights)

    def sources(self, k: int = 3, span: tuple[int, int] | None = None) -> list[Source]:
        """The sentences that the answer leans on most, by `specific` attention, the first one most.

        Args:
            k: how many, at most.
            span: characters `(first, last)` of the answer, whose tokens alone count; None = all.

        Raises:
            InputError: `k` is not a whole number of at least 1, or there is no such span.
        """
        number = whole(k)
        if number is None or number < 1:
            raise InputError(f"k is {k!r}: give the number of sentences, at least 1")
        found = self._sentences.ranked(self.specific[self._tokens_of(span)].sum(0), number)
        text = self.found.document_text
        return [Source(text[first:last], first, last, share) for first, last, share in found]

    def to_html(self) -> str:
        """The answer over the document, in a frame of its own with a script: hold a word, or move the slider."""
        return glow.frame(self)

    def show(self) -> None:
        """Show it: answer and document in a notebook, the sources in a terminal."""
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if getattr(shell, "kernel", None) is not None:
            from IPython.display import HTML, display

            display(HTML(self.to_html()))
            return
        lines = [f"{percent(each.share):>6}  {visible(' '.join(each.text.split()))}" for each in self.sources()]
        say("\n".join([glow.sentence(self), *lines, ""]), sys.stdout)

    def _repr_html_(self) -> str:
        return self.to_html()

    @cached_property
    def _sentences(self) -> DocumentUnits:
        return DocumentUnits(self.found, "sentence")

    def _tokens_of(self, span: tuple[int, int] | None) -> np.ndarray:
        """(N,) bool, the tokens with a character of a span of the answer."""
        if span is None:
            return np.ones(len(self.spans), dtype=bool)
        found = whole_numbers("span", span)
        if len(found) != 2 or not 0 <= found[0] < found[1] <= len(self.text):
            raise InputError(
                f"The span is {span!r}: give two whole numbers from 0 to {len(self.text)}, the answer's characters, "
                "the smaller one first"
            )
        return (self.spans[:, 0] < found[1]) & (self.spans[:, 1] > found[0])


def _index(name: str, value: object, count: int) -> int:
    number = whole(value)
    if number is None or not 0 <= number < count:
        raise InputError(f"The {name} is {value!r}: give one from 0 to {count - 1}")
    return number


def resting(weights: np.ndarray) -> np.ndarray:
    """(T,) the attention that each token of a prompt gets from the median token of an answer; see `specific`.

    Args:
        weights: (N, T).
    """
    if len(weights) < 3:
        return np.zeros(weights.shape[1], dtype=weights.dtype)
    return np.median(weights[:MEDIAN_OF], axis=0)
