"""From pieces of a document's text, as a person types them, to the spans where they stand. Knows nothing of Gradio."""

from __future__ import annotations

import re

from app import text
from judgeq.errors import InputError
from judgeq.pins import Span

MOST_PIECES = 50
SHOWN = 60
"""Characters of a piece that a message repeats."""


def spans_of(document: str, pieces: str) -> tuple[Span, ...]:
    """Every place in a document where one of the pieces stands, each a line of its own.

    Upper and lower case differ; a line break or several spaces in the document are as good as one space.

    Raises:
        InputError: a piece that does not occur, or too many of them.
    """
    lines = [words for line in (pieces or "").splitlines() if (words := line.split())]
    if len(lines) > MOST_PIECES:
        raise InputError(text.TOO_MANY_PIECES.format(most=MOST_PIECES, count=f"{len(lines):,}"))
    found: list[Span] = []
    for words in lines:
        places = [match.span() for match in re.finditer(r"\s+".join(map(re.escape, words)), document)]
        if not places:
            piece = " ".join(words)
            raise InputError(text.NO_SUCH_PIECE.format(piece=piece[:SHOWN] + "…" * (len(piece) > SHOWN)))
        found += places
    return tuple(found)
