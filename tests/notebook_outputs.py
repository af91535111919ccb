"""Compares a notebook's outputs with those of another run: same kinds, same words, numbers that are close.

Processors round differently, so a number may move by one part in a hundred and by its last digit; whole numbers below
100 may not move at all. In cells that are tagged `timed` numbers are not compared. Pictures must be there and show
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

TIMED = "timed"
"""Tag of cells that show times, or the memory of the process."""
CLOSE = Decimal("0.01")
NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?")


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """What is another in the fresh outputs, a sentence each; none where they agree."""
    pairs = zip(code_cells(stored), code_cells(fresh), strict=True)
    return [
        f"cell {number}: {found}"
        for number, (old, new) in enumerate(pairs, start=1)
        for found in _cell_differences(old, new, timed=TIMED in new.metadata.get("tags", []))
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


def _cell_differences(old: NotebookNode, new: NotebookNode, *, timed: bool) -> Iterator[str]:
    for ours, theirs in zip_longest(old.outputs, new.outputs):
        if ours is None or theirs is None:
            missing = "missing" if theirs is None else "not stored"
            yield f"an output is {missing}: {_kind(ours or theirs)}"
        elif theirs.output_type == "error":
            yield f"it fails: {theirs.ename}: {theirs.evalue}"
        elif _kind(ours) != _kind(theirs):
            yield f"{_kind(ours)} has become {_kind(theirs)}"
        else:
            yield from _output_differences(ours, theirs, timed=timed)


def _kind(output: NotebookNode) -> str:
    return " ".join([output.output_type, *output.get("name", "").split(), *sorted(output.get("data", {}))])


def _output_differences(old: NotebookNode, new: NotebookNode, *, timed: bool) -> Iterator[str]:
    for ours, theirs in zip(texts(old), texts(new), strict=True):
        if NUMBER.sub("#", ours) != NUMBER.sub("#", theirs):
            yield f"{ours!r} has become {theirs!r}"
        elif not timed:
            pairs = zip(NUMBER.findall(ours), NUMBER.findall(theirs), strict=True)
            yield from (
                f"{one} has become {other} in {ours!r}" for one, other in pairs if not is_close(one, other)
            )
    for kind, content in new.get("data", {}).items():
        if kind == "image/png" and is_blank(content):
            yield "a picture is blank"


def is_close(one: str, other: str) -> bool:
    """Whether two numbers, as they are printed, may be the same result on two machines."""
    first, second = (Decimal(number.replace(",", "")) for number in (one, other))
    exponent = first.as_tuple().exponent
    last_digit = Decimal(1).scaleb(exponent) if isinstance(exponent, int) and exponent < 0 else Decimal(0)
    return abs(first - second) <= CLOSE * max(abs(first), abs(second)) + last_digit
