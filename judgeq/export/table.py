"""Answers as a table: one line a method and word of the document, for spreadsheets and data frames.

Columns: `method`; `word`; `start`, `end`, its characters in the document; `kept`, the share of all KV heads that keep
it; `layer_0`, `layer_1`, …, the share of that layer's KV heads. A word counts with its best-kept token.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from judgeq.look.format import visible
from judgeq.retention.arrays import KeptRows

if TYPE_CHECKING:
    from judgeq.inference.answers import Answer

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What spreadsheets take for the beginning of a formula, full-width forms included."""


def to_csv(answers: Sequence[Answer]) -> str:
    """The table; begins with a byte-order mark, without which Excel takes UTF-8 for something else."""
    target = io.StringIO(newline="")
    table = csv.writer(target)
    layers = range(max(answer.retention.layers for answer in answers))
    table.writerow(["method", "word", "start", "end", "kept", *(f"layer_{layer}" for layer in layers)])
    for answer in answers:
        found = answer.retention
        spans, shares = found.units("word")
        figures = _written(np.vstack([shares, _by_layer(found, spans)])).T.tolist()
        text, method = found.document_text, cell(answer.method)
        for (start, end), row in zip(spans.tolist(), figures, strict=True):
            table.writerow([method, cell(text[start:end]), start, end, *row])
    return "\ufeff" + target.getvalue()


def cell(text: str) -> str:
    """A text that no spreadsheet evaluates: an apostrophe is put before what looks like a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown


def _by_layer(found: KeptRows, spans: np.ndarray) -> np.ndarray:
    """(L, n) share of each layer's KV heads that keeps a word's best-kept token, all layers at once."""
    offsets = np.asarray(found.offsets) - found.document[0]
    first = np.searchsorted(offsets[:, 1], spans[:, 0], side="right")
    last = np.searchsorted(offsets[:, 0], spans[:, 1], side="left")
    shares = np.stack([found.share_kept(layer) for layer in range(found.layers)])
    padded = np.pad(shares, ((0, 0), (0, 1)))  # `last` may be one past the last token
    best = np.maximum.reduceat(padded, np.stack([first, last], axis=1).ravel(), axis=1)[:, ::2]
    return np.where(last > first, best, 0.0)


def _written(values: np.ndarray) -> np.ndarray:
    """Numbers as text with four digits; few of them differ, so that each is written once."""
    known, where = np.unique(values, return_inverse=True)
    return np.array([f"{value:.4g}" for value in known], dtype=object)[where.reshape(values.shape)]
