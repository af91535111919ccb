"""From pieces of a document's text, as typed, to the spans where they occur. Knows nothing of Gradio."""

from __future__ import annotations

import re
from itertools import islice

from app import text
from judgeq.config import check_text
from judgeq.errors import InputError
from judgeq.inference.spans import Span

MOST_PIECES, MOST_PLACES = 50, 1000
SHOWN = 60
"""Characters of a piece that a message repeats."""


def spans_of(document: str, pieces: str) -> tuple[Span, ...]:
    """Every span of a document where one of the pieces, one per line, occurs.

    Upper and lower case differ; a line break or several spaces in the document match one space.

    Raises:
        InputError: a piece that does not occur, or occurs too often, or too many pieces.
    """
    lines = [words for line in check_text("piece", pieces or "").splitlines() if (words := line.split())]
    if len(lines) > MOST_PIECES:
        raise InputError(text.TOO_MANY_PIECES.format(most=MOST_PIECES, count=f"{len(lines):,}"))
    found: list[Span] = []
    for words in lines:
        matches = re.finditer(r"\s+".join(map(re.escape, words)), document)
        places = [match.span() for match in islice(matches, MOST_PLACES + 1)]
        if not 0 < len(places) <= MOST_PLACES:
            piece = " ".join(words)
            piece = piece[:SHOWN] + "…" * (len(piece) > SHOWN)
            raise InputError(
                (text.EVERYWHERE if places else text.NO_SUCH_PIECE).format(piece=piece, most=f"{MOST_PLACES:,}")
            )
        found += places
    return tuple(found)
