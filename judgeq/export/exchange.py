"""A keepsake as plain JSON values.

| key | is |
|---|---|
| `format` | `judgeq.inference.answers/1` |
| `made` | when, ISO 8601 with a time zone |
| `versions` | of judgeq, Python, torch, transformers, bitsandbytes |
| `question` | as it was asked |
| `settings` | names as in `judgeq.load` and `judgeq.read`; `file` only names the document |
| `answers` | one a method: what `Answer.to_dict` gives, and `retention`, which `RetentionMap.from_json` reads |

The document itself is in every `retention`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from judgeq.export.record import Keepsake

FORMAT = "judgeq.inference.answers/1"


def to_json(keepsake: Keepsake, scores: bool) -> dict[str, Any]:
    """See `Keepsake.to_json`."""
    return {
        "format": FORMAT,
        "made": keepsake.made.isoformat(timespec="seconds"),
        "versions": keepsake.versions,
        "question": keepsake.question,
        "settings": asdict(keepsake.settings),
        "answers": [
            {**answer.to_dict(), "retention": answer.retention.to_json(scores=scores)}
            for answer in keepsake.answers
        ],
    }
