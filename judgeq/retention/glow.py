"""What an answer attends to, as words that light up: short numbers for a script, and a frame for notebooks.

Every text is untrusted; the templates escape it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from judgeq.look.format import percent
from judgeq.look.pages import css, render, script
from judgeq.look.palette import variables
from judgeq.retention.arrays import KeptRows
from judgeq.retention.document_units import DocumentUnits
from judgeq.retention.text import blocks, shown_positions

if TYPE_CHECKING:
    from judgeq.retention.attended import Attended

MOST_WORDS, LEAST = 8, 0.12
"""Words that light up at once, and the least share of the strongest one's attention among them."""
EXCERPT = 150
"""Characters of a sentence that are shown around its strongest word."""
SOURCES = 3


class Lights:
    """Which of a document's words light up, and where a script finds them. One for all answers about a prompt."""

    def __init__(self, found: KeptRows) -> None:
        self.found = found
        self.words, self.sentences = (DocumentUnits(found, kind) for kind in ("word", "sentence"))
        self._real = found.words_among(self.words.spans)
        self._positions = shown_positions(found.document_text)

    def of(self, weights: np.ndarray) -> list[int]:
        """What one token of an answer lights: for each word its start, its length and its attention in 1/10,000.

        Args:
            weights: (T,) to the prompt's tokens, such as a row of `Attended.specific`.

        Returns:
            Three numbers a word, the strongest word first; positions are those of `text.shown_positions`.
        """
        paid = self.words.sums(weights[None])[0] * self._real
        strongest = np.argsort(-paid, kind="stable")[:MOST_WORDS]
        kept = strongest[paid[strongest] > LEAST * paid.max()] if len(paid) and paid.max() > 0 else strongest[:0]
        places = self._positions[self.words.spans[kept]]
        tenths = np.rint(paid[kept] * 10_000).astype(np.int64)
        return np.stack([places[:, 0], places[:, 1] - places[:, 0], tenths], axis=1).ravel().tolist()

    def steps(self, attended: Attended) -> list[list[int]]:
        """For each token of an answer the index of its word, see `answer_words`, and what it lights."""
        words = words_of_tokens(attended.text, attended.spans)
        return [[word, *self.of(row)] for word, row in zip(words, attended.specific, strict=True)]

    def leaning(self, weights: np.ndarray) -> list[dict[str, Any]]:
        """What a page shows of the sentences that an answer leans on, the first one most.

        Args:
            weights: (T,) to the prompt's tokens, summed over those of the answer.

        Returns:
            For each `share`; `text`, the sentence or its part around the strongest word; `start`, where that begins in
            what is shown; and `cut`, whether there is more of the sentence before and after.
        """
        paid = self.words.sums(weights[None])[0] * self._real
        found = []
        for first, last, share in self.sentences.ranked(weights, SOURCES):
            start, end = self._excerpt(first, last, paid)
            text = self.found.document_text[start:end].replace("\r\n", "\n").replace("\r", "\n")
            cut = start > first, end < last
            found.append({"share": share, "text": text, "start": int(self._positions[start]), "cut": cut})
        return found

    def _excerpt(self, first: int, last: int, paid: np.ndarray) -> tuple[int, int]:
        """Whole words of a sentence around its strongest one."""
        if last - first <= EXCERPT:
            return first, last
        spans, text = self.words.spans, self.found.document_text
        inside = np.flatnonzero((spans[:, 0] >= first) & (spans[:, 1] <= last))
        best = int(spans[inside[np.argmax(paid[inside])], 0]) if len(inside) else first
        start = max(first, min(best - EXCERPT // 2, last - EXCERPT))
        end = min(last, start + EXCERPT)
        while start > first and not text[start - 1].isspace():
            start -= 1
        while end < last and not text[end].isspace():
            end += 1
        return start, end


def answer_words(text: str) -> list[tuple[int, int]]:
    """Spans of an answer's words, as they can be held: what stands between white space."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def words_of_tokens(text: str, spans: np.ndarray) -> list[int]:
    """For each token the index of the first word that it has a character of, or of the next word; -1 = none."""
    words = answer_words(text)
    if not words:
        return [-1] * len(spans)
    at = np.searchsorted([last for _, last in words], spans[:, 0], side="right")
    return np.where(at < len(words), at, len(words) - 1).tolist()


def sentence(attended: Attended) -> str:
    """Where the attention goes, in one sentence."""
    shares = attended.shares()
    heads = "" if attended.head is None else f" in query head {attended.head}"
    layers = "" if attended.layer is None else f" in layer {attended.layer}"
    memory = f", {percent(shares['memory'])} to memory tokens" if shares["memory"] else ""
    return (
        f"Of the attention of this answer’s tokens{heads}{layers} {percent(shares['document'])} go to the document, "
        f"{percent(shares['prompt'])} to the question and the chat template{memory}, and {percent(shares['answer'])} "
        "to the answer itself."
    )


def frame(attended: Attended) -> str:
    """See `Attended.to_html`."""
    found, lights = attended.found, Lights(attended.found)
    nothing = np.zeros((0, 2), dtype=np.int64), np.zeros(0, dtype=np.int64)
    page = render(
        "glow.html.j2",
        styles=Markup(variables()) + css("base", "glow"),
        script=script("glow"),
        sentence=sentence(attended),
        answer=numbered_words(attended.text),
        steps=json.dumps({"a": lights.steps(attended)}, separators=(",", ":")),
        sources=lights.leaning(attended.specific.sum(0)),
        blocks=["".join(piece for piece, _ in block) for block in blocks(found.document_text, *nothing)],
    )
    return render("frame.html.j2", page=page)


def numbered_words(text: str) -> list[tuple[str, int]]:
    """An answer in pieces: each word with its index, and what stands between words with -1."""
    found, position = list[tuple[str, int]](), 0
    for index, (first, last) in enumerate(answer_words(text)):
        if first > position:
            found.append((text[position:first], -1))
        found.append((text[first:last], index))
        position = last
    return found
