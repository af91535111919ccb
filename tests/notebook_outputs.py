"""Compares a notebook's outputs with those of another run: same kinds, same words, numbers that are close.

Processors round differently, so a number may move by one part in a hundred and by its last digit; whole numbers below
100 may not move at all, but for percentages. In cells that are tagged `timed` numbers are not compared. Where a cell
prints what the model says, the words are free: a method that is not sure of its answer gives another one on another
processor. An answer that has the fact that a sample asks for must still have it. Pictures must be there and show
something.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import zip_longest

from inscriptis import get_text
from nbformat import NotebookNode
from PIL import Image

from app.server.samples import samples

TIMED = "timed"
"""Tag of cells that show times, or the memory of the process."""
CLOSE = Decimal("0.01")
NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?")
PERCENTAGE = re.compile(NUMBER.pattern + r"(?= ?%)")
COUNTED = re.compile(NUMBER.pattern + r"(?= (?:MB|rows|bits|to)\b)")
SAYS = re.compile(r"^[^#\n]*\.(?:text\b|decode\()", re.MULTILINE)
"""Code that shows what a model has said."""
UNSURE = " gap closed #%"
"""Told in a `timed` cell only where the full cache is better than no rows at all, which four questions may decide."""


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """What is another in the fresh outputs, a sentence each; none where they agree."""
    pairs = zip(code_cells(stored), code_cells(fresh), strict=True)
    return [
        f"cell {number}: {found}"
        for number, (old, new) in enumerate(pairs, start=1)
        for found in _cell_differences(old, new)
    ]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_blank(encoded: str) -> bool:
    """Whether a PNG, in base64, has one colour only."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA")
    return all(low == high for low, high in picture.getextrema())


def texts(output: NotebookNode) -> Iterator[str]:
    """What a person reads of an output, spaces run together; HTML without its marks."""
    if output.output_type == "stream":
        yield " ".join(output.text.split())
    for kind, content in sorted(output.get("data", {}).items()):
        if not kind.startswith("image/"):
            yield " ".join((get_text(content) if kind == "text/html" else str(content)).split())


def _cell_differences(old: NotebookNode, new: NotebookNode) -> Iterator[str]:
    timed, says = TIMED in new.metadata.get("tags", []), bool(SAYS.search(new.source))
    for ours, theirs in zip_longest(old.outputs, new.outputs):
        if ours is None or theirs is None:
            missing = "missing" if theirs is None else "not stored"
            yield f"an output is {missing}: {_kind(ours or theirs)}"
        elif theirs.output_type == "error":
            yield f"it fails: {theirs.ename}: {theirs.evalue}"
        elif _kind(ours) != _kind(theirs):
            yield f"{_kind(ours)} has become {_kind(theirs)}"
        elif says and "text" in ours:
            yield from _answer_differences(ours.text, theirs.text, timed=timed)
        else:
            yield from _output_differences(ours, theirs, timed=timed)


def _kind(output: NotebookNode) -> str:
    return " ".join([output.output_type, *output.get("name", "").split(), *sorted(output.get("data", {}))])


def _output_differences(old: NotebookNode, new: NotebookNode, *, timed: bool) -> Iterator[str]:
    for ours, theirs in zip(texts(old), texts(new), strict=True):
        if _words(ours, timed=timed) != _words(theirs, timed=timed):
            yield f"{ours!r} has become {theirs!r}"
        elif not timed:
            for one, other in zip(NUMBER.finditer(ours), NUMBER.finditer(theirs), strict=True):
                is_share = PERCENTAGE.match(ours, one.start()) is not None
                if not is_close(one[0], other[0], is_share=is_share):
                    yield f"{one[0]} has become {other[0]} in {ours!r}"
    for kind, content in new.get("data", {}).items():
        if kind == "image/png" and is_blank(content):
            yield "a picture is blank"


def _words(text: str, *, timed: bool) -> str:
    words = NUMBER.sub("#", text)
    return words.replace(UNSURE, "") if timed else words


def _answer_differences(old: str, new: str, *, timed: bool) -> Iterator[str]:
    """Facts that are no longer said, in lines that begin with the same word, and figures about the rows."""
    for line in filter(None, old.splitlines()):
        label = line.split()[:1]
        now = [other for other in new.splitlines() if other.split()[:1] == label]
        for fact in (each.answer for each in samples()):
            if fact in line and not any(fact in other for other in now):
                yield f"{fact} is no longer said in {line!r}"
    ours, theirs = COUNTED.findall(old), COUNTED.findall(new)
    if not timed and not (len(ours) == len(theirs) and all(map(is_close, ours, theirs))):
        yield f"the figures {ours} have become {theirs}"


def is_close(one: str, other: str, *, is_share: bool = False) -> bool:
    """Whether two numbers, as they are printed, may be the same result on two machines."""
    first, second = (Decimal(number.replace(",", "")) for number in (one, other))
    exponent = first.as_tuple().exponent
    is_rounded = isinstance(exponent, int) and (exponent < 0 or is_share)
    last_digit = Decimal(1).scaleb(exponent) if is_rounded else Decimal(0)
    return abs(first - second) <= CLOSE * max(abs(first), abs(second)) + last_digit
