"""`judgeq errors`: what a message means, and all messages by their codes.

Read from the source of the library, and of the demo where that runs, so that no list can be out of date. Knows
nothing of pages.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from judgeq import errors
from judgeq.errors import InputError, JudgeqError, code_of

KINDS = {name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, JudgeqError)}


@dataclass(frozen=True)
class Explained:
    """One message of the library.

    Attributes:
        code: shared by all that one function makes.
        place: module and function.
        happened: what happened, and why; names in the place of what is put in.
        todo: what to do; empty where one sentence says both.
        purpose: what the function is for.
    """

    code: str
    place: str
    happened: str
    todo: str
    purpose: str


def explained() -> list[Explained]:
    """Every message of the packages in `errors.CODED`, in the order of the source."""
    folders = [Path(str(sys.modules[package].__file__)).parent for package in errors.CODED]
    return [each for folder in folders for path in sorted(folder.rglob("*.py")) for each in _in_module(path, folder)]


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("code", nargs="?", metavar="CODE", help="one of them, as it stands after a message")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    wanted = (arguments.code or "").strip("[]").lower()
    found = [each for each in explained() if wanted in ("", each.code.lower())]
    if not found:
        raise InputError(
            f"There is no code {arguments.code!r}: `python -m judgeq errors` lists all of the library, and the page "
            "`errors` of the demo its own too"
        )
    last = ""
    for each in found:
        if each.code != last:
            print(f"{each.code}\n  {each.purpose}")
        last = each.code
        print(f"  - {each.happened}" + (f"\n    What to do: {each.todo}" if each.todo else ""))


def _in_module(path: Path, folder: Path) -> Iterator[Explained]:
    module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = ast.get_docstring(tree) or ""
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    named = _sentences(folder / "text.py")
    for node, places in _made(tree, ()):
        code, place = (
            code_of(module, ".".join(each.name for each in places)),
            ".".join(each.name for each in places),
        )
        purpose = next((doc for each in reversed(places) if (doc := ast.get_docstring(each))), own)
        for text in _texts(node, functions, named):
            happened, _, todo = text.rpartition(": ")
            happened, todo = (happened, todo) if happened else (todo, "")
            yield Explained(code, f"{module}.{place}", happened, todo, " ".join(purpose.split("\n\n")[0].split()))


Place = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _made(node: ast.AST, places: tuple[Place, ...]) -> Iterator[tuple[ast.expr, tuple[Place, ...]]]:
    """The messages of `KIND(message)`, each with the classes and functions around it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id in KINDS and child.args:
            yield child.args[0], places
        yield from _made(child, (*places, child) if isinstance(child, Place) else places)


def _sentences(path: Path) -> dict[str, list[str]]:
    """What the constants of a module of texts say: one sentence, or those of a dictionary."""
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []
    return {
        target.id: [
            each.value
            for each in (node.value.values if isinstance(node.value, ast.Dict) else [node.value])
            if isinstance(each, ast.Constant) and isinstance(each.value, str)
        ]
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _texts(node: ast.expr, functions: dict[str, ast.FunctionDef], named: dict[str, list[str]]) -> Iterator[str]:
    """The sentences that an expression may give, with names for what is put in."""
    constants = [
        sentence
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "text"
        for sentence in named.get(each.attr, ())
    ]
    if isinstance(node, ast.IfExp):
        yield from _texts(node.body, functions, named)
        yield from _texts(node.orelse, functions, named)
    elif constants and not isinstance(node, ast.JoinedStr):
        for sentence in constants:
            yield re.sub(r"\{(\w*)[^}]*\}", lambda put: f"‹{put[1] or '…'}›", sentence)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in functions:
        for each in ast.walk(functions[node.func.id]):
            if isinstance(each, ast.Return) and each.value is not None:
                yield from _texts(each.value, {}, named)
    else:
        yield _template(node)


def _template(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_template, node.values))
    if isinstance(node, ast.FormattedValue):
        node = node.value
    named = [
        each.id if isinstance(each, ast.Name) else each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Name | ast.Attribute)
    ]
    return f"‹{named[0].strip('_') if len(named) else '…'}›"
