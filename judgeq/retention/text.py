"""A retention map in plain text: sentences with its numbers, levels, and marked text for terminals.

Every text is untrusted. Computes no retention and draws nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from judgeq.look.format import percent, visible
from judgeq.retention.arrays import KeptRows

LEVELS = ("no head", "few heads", "some heads", "many heads", "most heads", "all heads")
"""Names of the levels that a share of heads is shown as; the index is the level."""
BLOCK = 600
"""Characters after which a new block of the document begins, at the next line end."""
WHOLE_CACHE = "Every word is kept in the model’s memory while it answers."
MARKED = "Marked words are kept in the model’s memory while it answers; plain grey words were evicted."

_ANSI = ("2", "0", "4", "1", "1;4", "7")


def level_of(share: np.ndarray) -> np.ndarray:
    """Index into `LEVELS` for shares in [0, 1]; 0 and 1 are levels of their own."""
    return np.searchsorted([1e-9, 0.1 + 1e-9, 0.25 + 1e-9, 0.5 + 1e-9, 1 - 1e-9], share, side="right")


def subject(found: KeptRows) -> str:
    """The method's name where a sentence begins."""
    return found.title[:1].upper() + found.title[1:] if found.title else found.method


def positions(first: int, last: int) -> str:
    """Tokens `first` to `last - 1` in words."""
    return f"token {first:,}" if last - first == 1 else f"tokens {first:,} to {last - 1:,}"


def sentences(found: KeptRows, layer: int | None = None, head: int | None = None) -> list[str]:
    """What the map says, the plainest sentence first; `layer` and `head` as in `RetentionMap.share_kept`."""
    chosen = found.rows_of(layer, head)
    counts = [len(rows) for rows in chosen]
    least, most, tokens, mean = min(counts), max(counts), found.tokens, sum(counts) / len(counts)
    heads = "one head" if len(chosen) == 1 else f"each of {len(chosen):,} heads"
    heads += "" if layer is None else f" of layer {layer}"
    heads += "" if head is None else f" (KV head {head})"
    if least == tokens:
        return [WHOLE_CACHE, f"{subject(found)} keeps all {tokens:,} rows in {heads}."]
    spans, shares = found.units("word", layer, head)
    is_kept = shares[found.words_among(spans)] > 0
    kept_words = percent(float(is_kept.mean()) if len(is_kept) else 0.0)
    inside = found.document_tokens
    in_document = found.share_kept(layer, head)[inside.start : inside.stop].sum()
    rows = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    several = (
        f"The model remembers with {len(chosen):,} heads, each on its own: the stronger the mark, the more of them "
        "still hold the word."
    )
    unseen = "" if found.query_aware else " Rows were chosen before the question was known: query-agnostic."
    memory = memory_sentence(found)
    return [
        MARKED,
        *([several] if len(chosen) > 1 else []),
        f"{subject(found)} keeps {rows} of {tokens:,} rows in {heads}: {percent(mean / tokens)}. {kept_words} of the "
        f"document’s words are kept by {'it' if len(chosen) == 1 else 'at least one head'}.",
        f"Of a head’s {mean:,.0f} rows, {in_document:,.0f} hold the document on average; the rest hold the question "
        f"and the chat template.{memory}{unseen}",
    ]


def memory_sentence(found: KeptRows) -> str:
    """What stays beside the prompt's rows, with a space in front; empty where nothing does."""
    if not found.memory_rows:
        return ""
    are = "is a memory row" if found.memory_rows == 1 else "are memory rows"
    return (
        f" {found.memory_rows:,} more of the budget’s {found.budget:,} rows {are}, left by trained tokens that have "
        "read the prompt."
    )


def shown_positions(text: str) -> np.ndarray:
    """(n + 1,) int64: where each character of a text begins in what `blocks` shows, in UTF-16 units.

    That is how scripts in a browser count. The last entry is the length of the whole.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
    widths = 1 + (codes > 0xFFFF).astype(np.int64)
    widths[:-1][(codes[:-1] == 0x0D) & (codes[1:] == 0x0A)] = 0  # shown as one line end
    return np.concatenate([[0], np.cumsum(widths)])


def blocks(text: str, spans: np.ndarray, levels: np.ndarray) -> list[list[tuple[str, int]]]:
    """The text in blocks of whole lines, each a list of `(piece, level)`; neighbours of one level are one piece.

    Together they hold the characters of the text and nothing else; `shown_positions` says where. A browser lays out
    only the blocks on the screen.

    Args:
        spans: (n, 2) disjoint ascending character spans.
        levels: (n,) of each span; what lies between spans has level 0.
    """
    breaks = [0]
    for match in re.finditer(r"\r\n|\r|\n", text):
        if match.end() - breaks[-1] >= BLOCK and match.end() < len(text):
            breaks.append(match.end())
    ends = iter([*breaks[1:], len(text)])
    found: list[list[tuple[str, int]]] = [[]]
    position, end = 0, next(ends)
    for run, level in _runs(text, spans, levels):
        while run:
            piece, run = run[: end - position], run[end - position :]
            found[-1].append((piece.replace("\r\n", "\n").replace("\r", "\n"), level))
            position += len(piece)
            if position == end:
                found.append([])
                end = next(ends, end)
    return [block for block in found if block]


def marked_text(text: str, spans: np.ndarray, levels: np.ndarray, *, ansi: bool) -> str:
    """The text for a terminal: with `ansi` every level in its own weight, else brackets from level 3 on."""
    if not ansi:
        levels = np.where(levels >= 3, 3, 0)
    pieces = []
    for piece, level in _runs(text, spans, levels):
        shown = visible(piece).replace("\r", "")
        if ansi:
            shown = f"\x1b[{_ANSI[level]}m{shown}\x1b[0m"
        elif level:
            shown = f"[{shown}]"
        pieces.append(shown)
    return "".join(pieces)


def _runs(text: str, spans: np.ndarray, levels: np.ndarray) -> Iterator[tuple[str, int]]:
    """`(piece, level)` in reading order; space between two spans of one level belongs to their run."""
    start, end, current = 0, 0, 0
    for (first, last), level in zip(spans.tolist(), levels.tolist(), strict=True):
        gap = text[end:first]
        if level != current or gap.strip():
            if end > start:
                yield text[start:end], current
            if gap:
                yield gap, 0
            start, current = first, level
        end = last
    if end > start:
        yield text[start:end], current
    if end < len(text):
        yield text[end:], 0
