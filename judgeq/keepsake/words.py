"""A keepsake as a table: one line a method and word of the document, for spreadsheets and data frames.

Columns: `method`; `word`; `start`, `end`, its characters in the document; `kept`, the share of all KV heads that still
hold it; `layer_0`, `layer_1`, …, the share of that layer's KV heads. A word counts with its best-kept token.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from judgeq.retention.rendering import visible

if TYPE_CHECKING:
    from judgeq.keepsake.record import Keepsake

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What spreadsheets take for the beginning of a formula, full-width forms included."""


def to_csv(keepsake: Keepsake) -> str:
    """See `Keepsake.to_csv`. Begins with a byte-order mark, without which Excel takes UTF-8 for something else."""
    target = io.StringIO(newline="")
    table = csv.writer(target)
    layers = range(max(answer.retention.layers for answer in keepsake.answers))
    table.writerow(["method", "word", "start", "end", "kept", *(f"layer_{layer}" for layer in layers)])
    for answer in keepsake.answers:
        found = answer.retention
        spans, shares = found.units("word")
        by_layer = [found.units("word", layer)[1].tolist() for layer in range(found.layers)]
        text, method = found.document_text, cell(answer.method)
        for (start, end), *values in zip(spans.tolist(), shares.tolist(), *by_layer, strict=True):
            figures = [f"{value:.4g}" for value in values]
            table.writerow([method, cell(text[start:end]), start, end, *figures])
    return "\ufeff" + target.getvalue()


def cell(text: str) -> str:
    """A text that no spreadsheet computes: an apostrophe stands before what looks like a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.startswith(FORMULA) else shown
