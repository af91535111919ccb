"""What one answer says otherwise than another, word by word."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import Literal

Piece = tuple[str, Literal["same", "added", "missing"]]

COMPARABLE = 0.35
"""Share of common words below which two answers are not variants of each other."""


def differences(reference: str, text: str) -> list[Piece] | None:
    """The text in pieces, each with the white space after it, and between them what only the reference has.

    Words are compared with their punctuation and without regard to case. None where the two have too little in common
    for a comparison to be read.
    """
    ours, theirs = _words(text), _words(reference)
    matcher = SequenceMatcher(None, _keys(theirs), _keys(ours), autojunk=False)
    if matcher.ratio() < COMPARABLE:
        return None
    found: list[Piece] = []
    for tag, first, last, start, end in matcher.get_opcodes():
        if tag in ("delete", "replace"):
            found.append(("".join(theirs[first:last]), "missing"))
        if end > start:
            found.append(("".join(ours[start:end]), "same" if tag == "equal" else "added"))
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\S+\s*", text.strip())


def _keys(words: list[str]) -> list[str]:
    return [word.strip().casefold() for word in words]
