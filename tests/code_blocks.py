"""What the documents tell people to type: blocks of code, the commands in them and in running text.

Only finds; what is run, and how, stands in `tests/test_documented_commands.py`. What cannot run everywhere says so in
the document, in a comment before its block or paragraph: `<!-- needs: hub -->`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHELL = {"sh", "bash", "shell", "console"}
"""Languages of blocks in which every line is a command."""
TEXTS = {"", "text"}
"""Languages of blocks in which a line may be a command."""
FENCE = re.compile(r"^( *)(`{3,}|~{3,})[ \t]*(\S*)[^\n]*\n(.*?)^ *\2 *$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"<!-- needs: ([^>]+?) -->\s*(?:<!--[^>]*-->\s*)*\Z")
INLINE = re.compile(r"(?<![`\\])`([^`]+)`(?!`)")
INDENTED = re.compile(r"^(?: {4}|\t)(?=\S)(.+)$", re.MULTILINE)
NAMED = re.compile(r"`([\w./-]+)`[^`\n]*:\s*\Z")
"""A file's name before the block that has its content."""
PROGRAMS = re.compile(
    r"(?:\./run|judgeq|python -m|python [\w/]+\.py|accelerate|(?:python -m )?pip|hf|docker|podman|git clone)(?=\s|$)"
)


@dataclass(frozen=True)
class Block:
    """A block of code in a document.

    Attributes:
        document: path from the root of the repository.
        line: of its first line, from 1.
        begins: line from which a mark counts: of the block, or of the paragraph that it stands in.
        needs: what the document says that it takes, such as `("hub",)`.
        file: name of the file that the sentence before it says this is, or "".
    """

    document: str
    line: int
    language: str
    text: str
    needs: tuple[str, ...] = ()
    file: str = ""
    begins: int = 0

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command, as words.

    Attributes:
        block: where it stands.
        words: without a prompt, variables before it, comments and redirections; `./run python` and `judgeq` are
            written as `python` and `python -m judgeq`.
        inline: it stands in a sentence and may leave out what the sentence is not about.
    """

    block: Block
    words: tuple[str, ...]
    inline: bool = False

    def __str__(self) -> str:
        return shlex.join(self.words).replace("'", "")


def documents() -> list[str]:
    """Every document that is written for people, from the root of the repository."""
    places = ("*.md", "docs/**/*.md", "assets/**/*.md", "tutorials/*.md", "tutorials/*.py")
    found = [path for place in places for path in ROOT.glob(place)]
    return sorted(path.relative_to(ROOT).as_posix() for path in found if "_build" not in path.parts)


@cache
def text_of(document: str) -> str:
    """The text that is read: of a notebook's script its Markdown cells, with the lines where they stand."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return _prose(text) if document.endswith(".py") else text


def _prose(text: str) -> str:
    """The prose of a notebook's script, with empty lines in place of its code."""
    prose, is_prose = [], False
    for line in text.splitlines():
        if line.startswith("# %%"):
            is_prose, line = "[markdown]" in line, ""
        prose.append(re.sub(r"^# ?", "", line) if is_prose else "")
    return "\n".join(prose) + "\n"


@cache
def blocks(document: str) -> tuple[Block, ...]:
    """The fenced blocks of a document, in their order."""
    text = text_of(document)
    return tuple(
        Block(
            document,
            text.count("\n", 0, fence.start()) + 2,
            fence[3].strip("{}").lower(),
            "".join(line.removeprefix(fence[1]) for line in fence[4].splitlines(keepends=True)),
            _needs(text[: fence.start()]),
            named[1] if (named := NAMED.search(text[: fence.start()])) else "",
        )
        for fence in FENCE.finditer(text)
    )


def code(document: str, language: str = "python") -> list[Block]:
    return [block for block in blocks(document) if block.language == language]


def groups(document: str, verbs: frozenset[str]) -> list[list[Command]]:
    """The commands of a document; those of one block build on each other, those in sentences stand alone."""
    found = [list(_typed(block)) for block in blocks(document) if block.language in SHELL | TEXTS]
    prose = FENCE.sub(lambda fence: "\n" * fence[0].count("\n"), text_of(document))
    indented = [match for match in INDENTED.finditer(prose) if PROGRAMS.match(match[1])]
    found += [list(_typed(_sentence(document, prose, match))) for match in indented]
    for match in INLINE.finditer(prose):
        block = _sentence(document, prose, match)
        if _is_command(block.text, verbs):
            found.append([Command(block, words, inline=True) for words in _words(block.text, verbs)])
    return [group for group in found if group]


def options(document: str) -> Iterator[str]:
    """Every option that running text names, such as `--budget`."""
    prose = FENCE.sub("", text_of(document))
    for match in INLINE.finditer(prose):
        yield from re.findall(r"(?<![\w-])--[a-z][\w-]*", match[1])


def _needs(before: str) -> tuple[str, ...]:
    said = NEEDS.search(before)
    return tuple(part.strip() for part in said[1].split(",")) if said else ()


def _sentence(document: str, prose: str, match: re.Match[str]) -> Block:
    """The match as a block of its own; its paragraph's comment is its comment."""
    before = prose.rfind("\n\n", 0, match.start())
    paragraph = 0 if before < 0 else before + 2
    said = NEEDS.search("".join(re.findall(r"\A(?:<!--[^>]*-->\s*)+", prose[paragraph : match.start()])))
    needs = tuple(part.strip() for part in said[1].split(",")) if said else ()
    line = prose.count("\n", 0, match.start()) + 1
    text = " ".join(match[1].replace("\\|", "|").split())
    return Block(document, line, "", text, needs, begins=prose.count("\n", 0, paragraph) + 1)


def _is_command(text: str, verbs: frozenset[str]) -> bool:
    first, *rest = text.split()
    if first in verbs:
        return any(word.startswith("--") for word in rest) or (first in {"evaluate", "tokens"} and bool(rest))
    return bool(PROGRAMS.match(text)) and bool(rest)


def _typed(block: Block) -> Iterator[Command]:
    """The commands of a block, with lines that go on in the next one put together."""
    lines = block.text.splitlines()
    if any(line.startswith("$ ") for line in lines):  # the others are what it answers
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    begun = ""
    for line in lines:
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1] + " "
            continue
        try:
            found = list(_words(begun, frozenset()))
        except ValueError:  # a quotation goes on in the next line
            begun += "\n"
            continue
        if block.language in SHELL or PROGRAMS.match(begun):
            yield from (Command(block, words) for words in found)
        begun = ""


def _words(text: str, verbs: frozenset[str]) -> Iterator[tuple[str, ...]]:
    """The commands of one line."""
    line = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    line.whitespace_split = True
    words: list[str] = []
    if "|" in text and " | " not in text:  # `a|b`: one of the two
        text = text.replace("|", "\\|")
        line = shlex.shlex(text, posix=True, punctuation_chars=False)
        line.whitespace_split = True
    for word in [*line, ";"]:
        if not set(word) <= set(";&|<>"):
            words.append(word)
            continue
        if words:
            yield tuple(_plain(words, verbs))
        words = []


def _plain(words: list[str], verbs: frozenset[str]) -> list[str]:
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if words[:2] == ["./run", "python"]:
        words = words[1:]
    if words[:1] == ["judgeq"]:
        words = ["python", "-m", *words]
    if words and words[0] in verbs:
        words = ["python", "-m", "judgeq", *words]
    return words
