"""Sphinx extension: small corrections between docstrings and the pages of the library.

Classes that the library makes itself show no signature where it cannot be read, attributes are called attributes, and
two of them that share a line (`keys, values: …`) keep both names.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python import PyClasslike

SHARED = re.compile(r"^(\s*\w+)(?:, (\w+))+: ")
UNREADABLE = re.compile(r"~|^\(\*args, \*\*kwargs\)$")


def readable(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, None] | None:
    """An empty signature instead of one that nobody would type."""
    return ("", None) if what == "class" and UNREADABLE.search(signature or "") else None


def shared(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """`keys, values: …` as `keys/values: …`: Sphinx takes the first of two words for a type."""
    if what == "class":
        lines[:] = [SHARED.sub(lambda match: match[0].replace(", ", "/"), line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    for field in PyClasslike.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.connect("autodoc-process-signature", readable)
    app.connect("autodoc-process-docstring", shared, priority=100)  # before napoleon
    return {"parallel_read_safe": True}
