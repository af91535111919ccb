"""The functions and classes of Python's standard library, read from the running interpreter's own files.

They are read as text; nothing of them is run. One module in ten is held out.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import textwrap
import threading
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from judgeq.data.example import is_held_out
from judgeq.errors import InputError

LEFT_OUT = set("test tests idlelib lib2to3 pydoc_data encodings site-packages dist-packages".split())
LINES = range(4, 161)
"""How long a definition may be."""
_QUIET = threading.Lock()
"""Held while warnings are off: filters are the process's, and two threads would leave them off for good."""
LONGEST_WHOLE_CLASS = 60
"""Lines; a longer class is shown method by method."""

Defining = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Definition:
    """One function, method or class.

    Attributes:
        file: path in the library, such as `json/decoder.py`; for a method, its class too.
        source: with decorators, not indented.
    """

    name: str
    file: str
    source: str

    @property
    def node(self) -> Defining:
        """The parsed definition; line numbers are those of `source`."""
        node = ast.parse(self.source).body[0]
        assert isinstance(node, Defining)
        return node

    @property
    def is_function(self) -> bool:
        return not isinstance(self.node, ast.ClassDef)

    @property
    def lines(self) -> list[str]:
        return self.source.split("\n")

    @property
    def signature(self) -> list[str]:
        """The lines from `def` or `class` to the colon; empty where the body follows in the same line."""
        node = self.node
        head = self.lines[node.lineno - 1 : node.body[0].lineno - 1]
        ends = [at for at, line in enumerate(head) if line.rstrip().endswith(":")]
        return head[: ends[0] + 1] if ends else []

    @property
    def defaults(self) -> dict[str, str]:
        """What stands for each argument's default, where that is a plain value; otherwise nothing."""
        node = self.node
        if isinstance(node, ast.ClassDef):
            return {}
        given = node.args
        plain = [*given.posonlyargs, *given.args]
        found = dict.fromkeys((each.arg for each in (*plain, given.vararg, given.kwarg) if each), "")
        last = plain[len(plain) - len(given.defaults) :]
        found |= {each.arg: _plain(value) for each, value in zip(last, given.defaults, strict=True)}
        named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
        found |= {each.arg: _plain(value) for each, value in named}
        return {name: value for name, value in found.items() if name not in ("self", "cls")}

    @property
    def raised(self) -> list[str]:
        """The exception of each `raise`, once each, in order; nothing for one that is not named there."""
        raised = [node for node in ast.walk(self.node) if isinstance(node, ast.Raise)]
        causes = [node.exc for node in sorted(raised, key=lambda node: node.lineno)]
        names = (_name(exc.func if isinstance(exc, ast.Call) else exc) for exc in causes)
        return list(dict.fromkeys(name if name[:1].isupper() else "" for name in names))

    @property
    def called(self) -> set[str]:
        """What is called by name, methods too."""
        return {_name(node.func) for node in ast.walk(self.node) if isinstance(node, ast.Call)}

    @property
    def nested(self) -> bool:
        """Whether it holds functions of its own."""
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        return sum(isinstance(node, kinds) for node in ast.walk(self.node)) > 1

    @property
    def returns_value(self) -> bool:
        return any(isinstance(node, ast.Return) and node.value for node in ast.walk(self.node))


def _plain(value: ast.expr | None) -> str:
    """A number, a word or a name such as `None` as it would be said; otherwise nothing."""
    text = str(value.value) if isinstance(value, ast.Constant) and value.value is not Ellipsis else ""
    return text if text.isprintable() and text.strip() else ""


def _name(node: ast.expr | None) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


@cache
def library_files(held_out: bool) -> tuple[tuple[str, Path, int], ...]:
    """Module name, file and size in bytes of what there is to train on, or of what is held out, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            if is_held_out(module) == held_out:
                found.append((module, path, path.stat().st_size))
    if not found:
        raise InputError(f"This Python has no source files of its library in {root}: use other data than code")
    return tuple(sorted(found))


@cache
def definitions(path: Path) -> tuple[Definition, ...]:
    """The functions and classes in a file of the library, in its order; none where it does not parse."""
    try:
        text = path.read_text(encoding="utf-8")
        with _QUIET, warnings.catch_warnings(action="ignore"):  # escapes in old code
            tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError):
        return ()
    lines = text.split("\n")
    file = path.relative_to(sysconfig.get_path("stdlib")).as_posix()
    found = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _end(node) - node.lineno >= LONGEST_WHOLE_CLASS:
            found += [_definition(inner, lines, f"{file}, class {node.name}") for inner in node.body]
        else:
            found.append(_definition(node, lines, file))
    return tuple(each for each in found if each is not None)


def _definition(node: ast.stmt, lines: list[str], file: str) -> Definition | None:
    if not isinstance(node, Defining) or node.name.startswith("__"):
        return None
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    source = textwrap.dedent("\n".join(lines[first - 1 : _end(node)]))
    if source.count("\n") + 1 not in LINES or source[0] == " ":  # a text in it stands further left
        return None
    return Definition(node.name, file, source)


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno
