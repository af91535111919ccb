"""A retention map as plain JSON values, and back.

`spans` are character positions counted from the start of `document`, in code points: negative in `before`, beyond the
document in `after`. `kept` is `[layer][head]`, ascending token indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from judgeq.errors import InputError

if TYPE_CHECKING:
    from judgeq.retention.map import RetentionMap

FORMAT = "judgeq.retention/1"


def to_json(retention: RetentionMap, scores: bool) -> dict[str, Any]:
    """The map's values; `scores` adds the scores, rounded to four significant digits."""
    start, end = retention.document
    values: dict[str, Any] = {
        "format": FORMAT,
        "method": retention.method,
        "model": retention.model,
        "budget": retention.budget,
        "query_aware": retention.query_aware,
        "before": retention.text[:start],
        "document": retention.text[start:end],
        "after": retention.text[end:],
        "spans": [[first - start, last - start] for first, last in retention.offsets],
        "kept": [[rows.tolist() for rows in layer] for layer in retention.kept],
    }
    if scores:
        values["scores"] = None if retention.scores is None else _rounded(retention.scores)
    return values


def fields_from_json(values: dict[str, Any]) -> dict[str, Any]:
    """The map's constructor arguments from what `to_json` gave.

    Raises:
        InputError: another format, or values of other types.
    """
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"This is no retention map: its format is not {FORMAT!r}")
    try:
        before, document, after = values["before"], values["document"], values["after"]
        start, scores = len(before), values.get("scores")
        return {
            "method": str(values["method"]),
            "model": str(values["model"]),
            "budget": int(values["budget"]),
            "query_aware": bool(values.get("query_aware", True)),
            "text": before + document + after,
            "offsets": tuple((int(first) + start, int(last) + start) for first, last in values["spans"]),
            "document": (start, start + len(document)),
            "kept": tuple(tuple(np.asarray(rows) for rows in layer) for layer in values["kept"]),
            "scores": None if scores is None else np.array(scores, dtype=np.float32),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The retention map cannot be read: {error!r}") from error


def _rounded(scores: np.ndarray) -> list[Any]:
    """Nested lists with four significant digits; None for NaN."""
    values = scores.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 10.0 ** (3 - np.floor(np.log10(np.abs(values))))
        short = np.where((values == 0) | ~np.isfinite(values), values, np.round(values * scale) / scale)
    rounded = short.astype(object)
    rounded[np.isnan(short)] = None
    return rounded.tolist()
