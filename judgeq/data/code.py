"""Questions over the source code of Python's standard library, in many shapes.

What is asked is only about code that the document shows, and answers stand where the code itself decides them.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from judgeq.data.example import Example, GeneratedSource, Page, draw_shape
from judgeq.data.lengths import count_tokens, draw_length, fit
from judgeq.data.standard_library import Definition, definitions, library_files
from judgeq.data.templates import TEMPLATES
from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import SEPARATOR

TEXTS = TEMPLATES["code"]
RUNS = (1, 1, 2, 3, 5, 8)
"""How many definitions in a row come from one module."""
MISSES = 200
"""So many draws in a row that give nothing new: all has been shown."""

FIRST_LINES = "Repeat the first {count} lines of `{name}` word for word."


@dataclass(frozen=True)
class CodePage(Page):
    """A document of code: definitions whose first line it shows, in order, and those that it shows to the end."""

    shown: tuple[Definition, ...]
    whole: tuple[Definition, ...]


@dataclass(frozen=True)
class CodeSource(GeneratedSource):
    """Documents of several functions and classes, and one of many kinds of questions about them.

    Which code there is depends on the version of the interpreter.
    """

    held_out: bool = False

    name: ClassVar[str] = "code"

    def build(self, lm: LanguageModel, tokens: tuple[int, int], rng: random.Random) -> Example:
        return draw_shape(SHAPES, rng, _page(lm, self.held_out, tokens, rng))


def _page(lm: LanguageModel, held_out: bool, tokens: tuple[int, int], rng: random.Random) -> CodePage:
    """Definitions of different names until a random length is reached, the last one cut at a line to fit."""
    files = library_files(held_out)
    sizes = [size for *_, size in files]
    length = draw_length(tokens, rng)
    heading = rng.choice(TEXTS["headings"])
    longest_run = rng.choice((*RUNS, *(len(RUNS) * [1000])))  # as often one module alone
    chosen: list[Definition] = []
    total = misses = 0
    while total < length:
        found = definitions(rng.choices(files, sizes)[0][1])
        start = rng.randrange(len(found)) if found else 0
        before = len(chosen)
        for each in found[start : start + longest_run]:
            if total < length and all(each.name != other.name for other in chosen):
                chosen.append(each)
                total += count_tokens(lm, SEPARATOR + heading.format(file=each.file, code=each.source))
        misses = misses + 1 if len(chosen) == before else 0
        if misses == MISSES:
            raise InputError(f"The standard library has no document of {length:,} tokens: ask for shorter ones")
    pieces = [heading.format(file=each.file, code=each.source) for each in chosen]
    text = fit(lm, SEPARATOR.join(pieces), length, shortest=min(tokens))
    shown, whole, at = [], [], 0
    for each, piece in zip(chosen, pieces, strict=True):
        code = at + piece.index(each.source)
        if code + len("\n".join(each.lines[: each.node.lineno])) <= len(text):
            shown.append(each)
        if code + len(each.source) <= len(text):
            whole.append(each)
        at += len(piece) + len(SEPARATOR)
    return CodePage("code", text, tuple(shown), tuple(whole))


def _functions(page: CodePage) -> list[Definition]:
    return [each for each in page.whole if each.is_function]


def _about(page: CodePage, rng: random.Random, shape: str, found: Mapping[str, Sequence[str]]) -> Example | None:
    """A question about one of the names, with its answers."""
    if not found:
        return None
    name = rng.choice(list(found))
    return page.ask(rng.choice(TEXTS[shape]).format(name=name), shape, rng, found[name])


def _all(page: CodePage, rng: random.Random) -> Example:
    return page.ask(rng.choice(TEXTS["all"]), "all", rng)


def _explain(page: CodePage, rng: random.Random) -> Example | None:
    if not page.shown:
        return None
    return page.ask(rng.choice(TEXTS["explain"]).format(name=rng.choice(page.shown).name), "explain", rng)


def _arguments(page: CodePage, rng: random.Random) -> Example | None:
    taking = {each.name: each.defaults for each in _functions(page)}
    taking = {name: defaults for name, defaults in taking.items() if defaults}
    if not taking:
        return None
    name = rng.choice(list(taking))
    known = {argument: default for argument, default in taking[name].items() if default}
    if known and rng.random() < 0.5:
        argument = rng.choice(list(known))
        question = f"What is the default of the argument `{argument}` of `{name}`?"
        return page.ask(question, "arguments", rng, [known[argument]])
    question = rng.choice(TEXTS["arguments"]).format(name=name)
    return page.ask(question, "arguments", rng, list(taking[name]))


def _which(page: CodePage, rng: random.Random) -> Example | None:
    described = {}
    for each in page.whole:
        line = (ast.get_docstring(each.node) or "").partition("\n")[0].strip()
        if len(line) > 20 and each.name not in line and page.text.count(line) == 1:
            described[each.name] = line
    if not described:
        return None
    name = rng.choice(list(described))
    return page.ask(rng.choice(TEXTS["which"]).format(doc=described[name]), "which", rng, [name])


def _returns(page: CodePage, rng: random.Random) -> Example | None:
    found = [each.name for each in _functions(page) if each.returns_value]
    if not found:
        return None
    return page.ask(rng.choice(TEXTS["returns"]).format(name=rng.choice(found)), "returns", rng)


def _raises(page: CodePage, rng: random.Random) -> Example | None:
    """About a function that names every exception that it raises."""
    found = {each.name: each.raised for each in _functions(page)}
    return _about(page, rng, "raises", {name: raised for name, raised in found.items() if raised and all(raised)})


def _callers(page: CodePage, rng: random.Random) -> Example | None:
    """About a name that only functions call which are shown whole and hold no function of their own."""
    callers: dict[str, list[str]] = {}
    cut_off = page.text.rpartition(page.whole[-1].source)[2] if page.whole else ""
    elsewhere = set(re.findall(r"\w+", cut_off))
    for each in page.whole:
        if each.is_function and not each.nested:
            for name in each.called:
                callers.setdefault(name, []).append(each.name)
        else:
            elsewhere |= each.called
    found = sorted(name for name in callers if len(name) > 3 and name not in elsewhere)
    return _about(page, rng, "callers", {name: callers[name] for name in found if len(callers[name]) <= 4})


def _list(page: CodePage, rng: random.Random) -> Example | None:
    names = [each.name for each in page.shown]
    return page.ask(rng.choice(TEXTS["list"]), "list", rng, names) if names else None


def _repeat(page: CodePage, rng: random.Random) -> Example | None:
    """The signature, the first lines, or all of a definition whose beginning stands in the answer already."""
    if not page.whole:
        return None
    each = rng.choice(page.whole)
    form = rng.choice(("signature", "lines", "all"))
    if form == "signature" and each.signature:
        question = f"Repeat the signature of `{each.name}` word for word."
        return page.ask(question, "repeat", rng, [line.strip() for line in each.signature])
    kept = rng.randint(2, min(8, len(each.lines) - 1))
    if form == "lines":
        answers = [line.strip() for line in each.lines[:kept] if line.strip()]
        question = FIRST_LINES.format(count=kept, name=each.name)
        return page.ask(question, "repeat", rng, answers)
    following = [line.strip() for line in each.lines[kept:] if line.strip()]
    prefix = "\n".join(each.lines[:kept]).rstrip()
    question = f"Repeat `{each.name}` word for word."
    return page.ask(question, "repeat", rng, following[:1], answer_prefix=prefix)


def _following(page: CodePage, rng: random.Random) -> Example | None:
    """About the line after one that the document has only once."""
    pairs = [
        (each.name, line.strip(), after.strip())
        for each in page.whole
        for line, after in pairwise(each.lines)
        if len(line.strip()) > 15 and after.strip() and page.text.count(line.strip()) == 1
    ]
    if not pairs:
        return None
    name, line, after = rng.choice(pairs)
    question = f"Which line comes right after this one in `{name}`?\n{line}"
    return page.ask(question, "following", rng, [after])


def _complete(page: CodePage, rng: random.Random) -> Example | None:
    """The last function breaks off: where the document ends, or else in its middle."""
    last = page.shown[-1] if page.shown else None
    if last is None or not last.is_function or not last.signature:
        return None
    begin = page.text.rindex(last.source if last in page.whole else "\n".join(last.lines[: last.node.lineno]))
    shown = page.text[begin:].count("\n")
    if last in page.whole:
        shown = len(last.lines) // 2
    if not last.node.lineno + len(last.signature) <= shown <= len(last.lines) - 2:
        return None
    cut = replace(page, text=page.text[:begin] + "\n".join(last.lines[:shown]))
    return cut.ask(rng.choice(TEXTS["complete"]).format(name=last.name), "complete", rng)


SHAPES: dict[Callable[[CodePage, random.Random], Example | None], float] = {
    _explain: 3,
    _arguments: 2,
    _which: 2,
    _repeat: 2,
    _following: 2,
    _complete: 2,
    _all: 1,
    _callers: 1,
    _list: 1,
    _raises: 1,
    _returns: 1,
}
"""How often each shape is tried."""
