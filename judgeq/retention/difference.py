"""Two methods laid over one document: what both keep, what one keeps, what neither does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from judgeq.retention.checks import check_same_prompt
from judgeq.retention.presentation import figures, title, words_among
from judgeq.retention.rendering import LegendEntry, document_html, marked_html, percent
from judgeq.retention.units import Granularity

if TYPE_CHECKING:
    from judgeq.retention.map import RetentionMap

CLASSES = ("", "jq-a", "jq-b", "jq-both")
"""Class of what neither, only the first, only the second, and both keep."""


def to_html(
    found: RetentionMap,
    other: RetentionMap,
    granularity: Granularity,
    layer: int | None,
    head: int | None,
    reading: bool,
) -> str:
    """See `RetentionMap.difference_html`."""
    check_same_prompt(found, other)
    spans, _ = found.units(granularity, layer, head)
    levels = _kept(found, granularity, layer, head) + 2 * _kept(other, granularity, layer, head)
    counted = levels[words_among(found, spans)] if granularity == "word" else levels
    shares = np.bincount(counted, minlength=4) / max(len(counted), 1)
    one, two = _name(found), _name(other)
    legend = [
        LegendEntry(CLASSES[level], name, "", float(shares[level]))
        for level, name in (
            (3, "both keep it"),
            (1, f"only {one}"),
            (2, f"only {two}"),
            (0, "neither keeps it"),
        )
    ]
    return document_html(
        _sentences(found, other, layer, head, granularity, shares),
        f"Share of the document’s {granularity}s",
        legend,
        marked_html(found.document_text, spans, levels, CLASSES),
        f"Document, marked by what {one} and {two} keep of it",
        figures([found, other], granularity, layer, head) if reading else None,
    )


def _sentences(
    found: RetentionMap,
    other: RetentionMap,
    layer: int | None,
    head: int | None,
    granularity: str,
    shares: np.ndarray,
) -> list[str]:
    one, two = _name(found), _name(other)
    neither, first, second, both = (percent(float(share)) for share in shares)
    where = "" if layer is None else f" in layer {layer}"
    where += "" if head is None else f" (KV head {head})"
    least, most = _threshold(found, layer, head), _threshold(other, layer, head)
    alone = len(found.rows_of(layer, head)) == 1
    rule = (
        f"Both look with one head{where}."
        if alone
        else f"A {granularity} counts as kept where at least as many heads hold it as hold an average token: "
        f"{percent(least)} of the heads{where} with {one}, {percent(most)} with {two}."
    )
    return [
        f"A double line: both keep it. A plain line: only {_unbroken(one)}. A dashed line: only {_unbroken(two)}. "
        "Grey: gone with both.",
        f"Of the document’s {granularity}s, both keep {both}, only {one} keeps {first}, only {two} keeps {second}, and "
        f"neither keeps {neither}.",
        rule,
    ]


def _kept(found: RetentionMap, granularity: Granularity, layer: int | None, head: int | None) -> np.ndarray:
    """(n,) int64, 1 for each unit that counts as kept."""
    shares = found.units(granularity, layer, head)[1]
    return ((shares > 0) & (shares >= _threshold(found, layer, head) - 1e-9)).astype(np.int64)


def _threshold(found: RetentionMap, layer: int | None, head: int | None) -> float:
    """Share of heads that keep an average token of the prompt."""
    return float(found.share_kept(layer, head).mean())


def _name(found: RetentionMap) -> str:
    """The method's title inside a sentence."""
    name = title(found)
    return f"the {name[4:]}" if name.startswith("The ") else name


def _unbroken(name: str) -> str:
    return name.replace(" ", "\N{NO-BREAK SPACE}")
