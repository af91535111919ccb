"""Which of an answer's words the cache has lost: tokens of the text whose row no head of any layer keeps.

Arrays and text only; knows nothing of models, methods or of how it is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from judgeq.retention.units import is_word, words_of


@dataclass(frozen=True)
class Lost:
    """How much of an answer is lost everywhere; see `lost_everywhere`.

    Attributes:
        tokens: tokens of the answer's words that stand in the text.
        lost: those of them that no head of any layer keeps.
        spans: character spans, in the answer, of the words with at least one such token.
    """

    tokens: int
    lost: int
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def share(self) -> float | None:
        """`lost / tokens`; None where no word of the answer stands in the text."""
        return self.lost / self.tokens if self.tokens else None


class Occurrences:
    """Where the words of an answer stand in a text, found once for several methods.

    Attributes:
        words: spans of the answer's words that stand in the text.
        tokens: for each of them the first token and the one after the last, (n, 2), of every occurrence.
    """

    def __init__(self, text: str, offsets: np.ndarray, answer: str) -> None:
        """Find them.

        Args:
            offsets: (T, 2) ascending character spans of tokens in `text`.
            answer: any text.
        """
        wanted = [(first, last) for first, last in words_of(answer).tolist() if is_word(answer[first:last])]
        keys = {answer[first:last].casefold() for first, last in wanted}
        found: dict[str, list[tuple[int, int]]] = {}
        for first, last in words_of(text).tolist() if keys else ():
            if (key := text[first:last].casefold()) in keys:
                found.setdefault(key, []).append((first, last))
        places = {key: _tokens_at(offsets, np.array(spans)) for key, spans in found.items()}
        pairs = [(span, places.get(answer[slice(*span)].casefold())) for span in wanted]
        known = [(span, place) for span, place in pairs if place is not None and len(place)]
        self.words = [span for span, _ in known]
        self.tokens = [place for _, place in known]

    def lost(self, kept: np.ndarray) -> Lost:
        """What is lost where (T,) bool `kept` says which tokens have a row in at least one head."""
        gone = np.concatenate([[0], np.cumsum(~kept)])
        tokens = lost = 0
        spans = []
        for span, place in zip(self.words, self.tokens, strict=True):
            missing = gone[place[:, 1]] - gone[place[:, 0]]
            best = np.lexsort((place[:, 1] - place[:, 0], missing))[0]
            tokens += int(place[best, 1] - place[best, 0])
            lost += int(missing[best])
            if missing[best]:
                spans.append(span)
        return Lost(tokens, lost, tuple(spans))


def _tokens_at(offsets: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """(n, 2) the first token of each span and the one after its last; spans without a token are left out."""
    first = np.searchsorted(offsets[:, 1], spans[:, 0], side="right")
    last = np.searchsorted(offsets[:, 0], spans[:, 1], side="left")
    return np.stack([first, last], axis=1)[last > first]
