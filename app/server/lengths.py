"""How long the prompt is against what the model reads, as one line for people. Knows nothing of Gradio."""

from __future__ import annotations

import html
import math

from app import text
from app.server.host import ModelHost
from judgeq.errors import InputError


def length_line(host: ModelHost, document: str, question: str, truncate: bool, answer: float) -> str:
    """A line such as `1,234 of 8,192 tokens`, and what happens to a document beyond that, as HTML.

    Args:
        answer: tokens to leave free for it.
    """
    try:
        tokens = host.count_all(document or "", question or "")
    except InputError as error:
        return _line(str(error), over=True)
    if not tokens or host.ready is None:
        return _line(text.LENGTH_UNKNOWN if host.ready is None else text.LENGTH_EMPTY)
    limit = host.ready.geometry.max_positions
    line = text.LENGTH_OF.format(tokens=tokens, limit=limit)
    over = tokens + (int(answer) if math.isfinite(answer) else 0) - limit
    if over <= 0:
        return _line(line)
    return _line(
        f"{line}: {(text.LENGTH_CUT if truncate else text.LENGTH_OVER).format(over=over)}", over=True
    )


def reading_line() -> str:
    """What stands there while a file is read."""
    return _line(text.READING_FILE)


def _line(words: str, over: bool = False) -> str:
    sign = '<b aria-hidden="true">!</b> ' if over else ""
    return f'<p role="status" class="length{" over" if over else ""}">{sign}{html.escape(words)}</p>'
