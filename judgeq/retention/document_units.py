"""A document's words, sentences or paragraphs, and the prompt's tokens that make them up. Knows nothing of answers."""

from __future__ import annotations

import numpy as np

from judgeq.retention.arrays import KeptRows
from judgeq.retention.units import Granularity, spans_of, unit_of_tokens


class DocumentUnits:
    """A document's words, sentences or paragraphs, and the prompt's tokens that end in each.

    Attributes:
        spans: (n, 2) int64 disjoint ascending character spans in the document.
    """

    def __init__(self, found: KeptRows, granularity: Granularity) -> None:
        """Raises an `InputError` for tokens, and for anything unknown."""
        inside, (start, end) = found.document_tokens, found.document
        offsets = np.asarray(found.offsets[inside.start : inside.stop], dtype=np.int64).reshape(-1, 2)
        self.spans = spans_of(found.document_text, granularity)
        unit = unit_of_tokens(found.document_text, offsets.clip(start, end) - start, self.spans)
        self._tokens = np.flatnonzero(unit >= 0) + inside.start
        self._unit = unit[unit >= 0]
        self._inside = slice(inside.start, inside.stop)

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """(N, T) of the prompt's tokens -> (N, n) float32, added up over the tokens of each unit."""
        count = len(self.spans)
        sums = [np.bincount(self._unit, row[self._tokens], minlength=count) for row in weights]
        return np.array(sums, dtype=np.float32).reshape(-1, count)

    def ranked(self, weights: np.ndarray, most: int) -> list[tuple[int, int, float]]:
        """The units with the largest sums, and their shares of what all of the document's tokens have.

        Args:
            weights: (T,) of the prompt's tokens, none below 0.

        Returns:
            Start, end and share of at most so many units with a share above 0, the largest first.
        """
        total, sums = float(weights[self._inside].sum()), self.sums(weights[None])[0]
        order = [at for at in np.argsort(-sums, kind="stable")[:most].tolist() if sums[at] > 0]
        return [(*self.spans[at].tolist(), float(sums[at]) / total) for at in order]
