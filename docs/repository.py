"""Sphinx extension: the repository's other pages, links that work here and there, options of the commands.

README, changelog, model card and notebooks stay where a person who looks through the repository finds them. While the
site is built, copies lie beside the other pages, and a relative link in any page is turned to where its file stands in
the site. `<!-- options: VERB -->` becomes the table of that command's options, from argparse itself; VERB may be a
module of the checkout with a function `parser`. Long commands are folded; what they do stays the same. Figures are
those of the results files: see `figures.py`. `<!-- errors -->` becomes the list of all messages.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import figures
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
DOCS = PurePosixPath("docs")

ELSEWHERE = {
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "assets/soft_tokens/smollm2-135m/README.md": "model-card.md",
    "assets/soft_tokens/smollm2-135m-documents/README.md": "model-card-documents.md",
}
"""Pages by their place in the repository, and what they are called beside the others."""
NO_NOTEBOOKS = "# Tutorials\n\nThere are no notebooks in this checkout.\n"
TUTORIALS = """# Tutorials

Notebooks as they were last run; each is a file in `tutorials/`.

```{{toctree}}
:maxdepth: 1

{names}
```
"""

LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/<])([^)\s#]+)")
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]")
"""A picture from elsewhere; the site loads nothing from there."""
OPTIONS = re.compile(r"^<!-- options: (.+?) -->$", re.MULTILINE)
SHELL = re.compile(r"(?<=^```sh\n)(.+?)(?=^```$)", re.MULTILINE | re.DOTALL)
ERRORS = "<!-- errors -->"
WIDTH = 84
"""Characters of a command that fit into a line of a page."""
NO_BREAK = re.compile(r"(?<=\d) (?=%)|(?<=\d) (?=to [+−]?\d)|(?<=\d to) |(?<=†) ")
ROW = re.compile(r"^\|.*\|$", re.MULTILINE)


def staged() -> dict[str, str]:
    """Every page from elsewhere, by its path in the repository: its path below docs/."""
    notebooks = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("tutorials/*.ipynb"))
    return {path: name for path, name in ELSEWHERE.items() if (ROOT / path).exists()} | {
        path: path for path in notebooks
    }


def stage(app: Sphinx) -> None:
    """Copy the pages from elsewhere. They keep their age, so that only what has changed is read again."""
    unstage(app)
    copies = staged()
    for path, name in copies.items():
        copy = Path(app.srcdir, name)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy2(ROOT / path, copy)
    notebooks = [PurePosixPath(name).stem for name in copies.values() if name.endswith(".ipynb")]
    index = Path(app.srcdir, "tutorials", "index.md")
    index.parent.mkdir(exist_ok=True)
    index.write_text(TUTORIALS.format(names="\n".join(notebooks)) if notebooks else NO_NOTEBOOKS, "utf-8")


def unstage(app: Sphinx, _: Exception | None = None) -> None:
    """Nothing of it stays: what looks through docs/ finds each page once."""
    for name in ELSEWHERE.values():
        Path(app.srcdir, name).unlink(missing_ok=True)
    shutil.rmtree(Path(app.srcdir, "tutorials"), ignore_errors=True)


def relinked(text: str, home: str, shown: str) -> str:
    """A page with its relative links turned from where it lies to where it is shown, both paths in the repository."""
    pages = staged() | dict.fromkeys(("tutorials", "tutorials/README.md"), "tutorials/index.md")
    places = {path: str(DOCS / name) for path, name in pages.items()}

    def turned(match: re.Match[str]) -> str:
        target = os.path.normpath(PurePosixPath(home).parent / match[1])
        if target not in places and not (ROOT / target).exists():
            return match[0]
        return os.path.relpath(places.get(target, target), PurePosixPath(shown).parent)

    return LINK.sub(turned, text)


def folded(command: str) -> str:
    """A long command in several lines, broken before options; one with a comment stays as it is."""
    first, *options = re.split(r" (?=--)", command)
    if "#" in command or len(command) <= WIDTH:
        return command
    lines = [first]
    for option in options:
        if len(f"{lines[-1]} {option}") > WIDTH:
            lines.append(f"   {option}")
        else:
            lines[-1] += f" {option}"
    return " \\\n".join(lines)


def options_of(command: str) -> str:
    """The options of one command as a Markdown table."""
    return "\n".join(
        [
            "| option | meaning |",
            "|---|---|",
            *(f"| {_spelled(action)} | {_meaning(action)} |" for action in _actions(command)),
        ]
    )


def _actions(command: str) -> Iterator[argparse.Action]:
    from judgeq import cli

    first, *words = shlex.split(command)
    outside = "." in first  # a module of the checkout
    parser = importlib.import_module(first).parser() if outside else cli._parser()
    for word in words if outside else [first, *words]:
        verbs = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
        parser = verbs.choices[word]
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            yield action


def _spelled(action: argparse.Action) -> str:
    choices = "|".join(map(str, action.choices or []))
    value = [] if action.nargs == 0 else [str(action.metavar or choices or action.dest.upper())]
    spelled = " ".join([*action.option_strings[:1], *value]).replace("|", "\\|")
    return f"`{spelled}`" + (", required" if action.required and action.option_strings else "")


def _meaning(action: argparse.Action) -> str:
    """The help of an option: what is code stays code, and an option's hyphens do not become a dash."""
    text = re.sub(r"(?<!\S)(--[\w-]+)", r"`\1`", (action.help or "") % vars(action))
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, but for code."""
    return re.sub(r"(`[^`]*`)|([\\*_<>\[\]])", lambda part: part[1] or f"\\{part[2]}", text)


def errors() -> str:
    """Every message of the library and the demo by its code: what happened, and what to do."""
    import app  # noqa: F401 - the demo adds its own
    from judgeq.commands.errors import explained

    lines: list[str] = []
    for each in explained():
        if f"### {each.code}" not in lines:
            lines += ["", f"### {each.code}", "", f"{_plain(each.purpose)} (`{each.place}`)", ""]
        lines.append(f"- {_plain(each.happened)}" + (f". *What to do:* {_plain(each.todo)}" if each.todo else ""))
    return "\n".join(lines)


def in_python(notebook: str) -> str:
    """A notebook that says what language its code is in; some are saved without it."""
    cells = json.loads(notebook)
    cells["metadata"] = {"language_info": {"name": "python"}} | cells["metadata"]
    return json.dumps(cells)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    name = Path(app.env.doc2path(docname)).relative_to(app.srcdir).as_posix()
    homes = {page: path for path, page in staged().items()}
    shown = str(DOCS / name)
    text = relinked(source[0], homes.get(name, shown), shown)
    if name.endswith(".ipynb"):
        source[0] = in_python(BADGE.sub("[Open in Colab]", text))
        return
    text = figures.unmarked(figures.filled(text))
    text = SHELL.sub(lambda block: "\n".join(map(folded, block[1].split("\n"))), text)
    text = ROW.sub(lambda row: NO_BREAK.sub("\u00a0", row[0]), text)  # a figure keeps its unit and its interval
    text = OPTIONS.sub(lambda match: options_of(match[1]), text)
    source[0] = text.replace(ERRORS, errors()) if ERRORS in text else text


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", stage)
    app.connect("source-read", read)
    app.connect("build-finished", unstage)
    return {"parallel_read_safe": True}
