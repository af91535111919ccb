"""The site: it builds without a warning and without network, its links lead somewhere, nothing public is left out."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import judgeq
from judgeq import cli
from tests.forks import ran

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOBODY = "http://127.0.0.1:9"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
FIGURE = {
    "application/vnd.plotly.v1+json": {"data": [], "layout": {}},
    "text/html": f"<script src='{NOBODY}/plotly.js'></script>",
    "image/png": PIXEL,
}
SHOWN = {"text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/svg+xml", "image/jpeg"}
"""What the site can show of a notebook's outputs."""


def notebook() -> str:
    """A notebook as it is saved without a word on its language, with a figure."""
    prose = {
        "cell_type": "markdown",
        "id": "a",
        "metadata": {},
        "source": "# First\n\n[words](../docs/index.md)",
    }
    outputs = [
        {"name": "stdout", "output_type": "stream", "text": "a stored output\n"},
        {"data": FIGURE, "metadata": {}, "output_type": "display_data"},
    ]
    source = "!ls\nraise SystemExit('this would fail')"
    code = {"cell_type": "code", "execution_count": 1, "id": "b", "metadata": {}, "outputs": outputs}
    cells = [prose, code | {"source": source}]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


class Page(HTMLParser):
    """What a page leads to, what can be led to in it, and what it says.

    Attributes:
        links: values of `href` and `src`.
        loaded: those that a browser follows by itself.
        ids: values of `id`.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = [value for name, value in attrs if name in {"href", "src"} and value]
        self.links += found
        self.loaded += [] if tag == "a" else found
        self.ids |= {value for name, value in attrs if name == "id" and value}

    def handle_data(self, data: str) -> None:
        self.text += data


@dataclass(frozen=True)
class Site:
    """A folder that was built, and its pages by their path in it."""

    folder: Path
    pages: dict[str, Page]


def build(root: Path, out: Path) -> Site:
    """The command of CONTRIBUTING.md, cut off from all networks."""
    unreachable = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), NOBODY)
    words = ["sphinx", "-q", "-W", "--keep-going", str(root / "docs"), str(out)]
    code, said = ran(words, unreachable)
    assert code == 0, said
    found = {path.relative_to(out).as_posix(): path for path in out.rglob("*.html")}
    return Site(out, {name: Page(path.read_text(encoding="utf-8")) for name, path in found.items()})


def pages_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site of this checkout."""
    before = pages_in(DOCS)
    built = build(ROOT, tmp_path_factory.mktemp("site"))
    assert pages_in(DOCS) == before, "copies of other pages lie in docs/"
    return built


def verbs(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that can be typed, with its parser."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not any(action.required for action in below):
        yield " ".join(words), parser
    for action in below:
        for word, its in action.choices.items():
            yield from verbs(its, *words, word)


VERBS = dict(verbs(cli._parser()))


def said_of(heading: str) -> str:
    """What docs/commands.md has under a heading, up to the next one."""
    text = (DOCS / "commands.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/commands.md has no heading {heading}"
    return found[1]


# Links


def test_every_link_inside_the_site_leads_somewhere(site: Site) -> None:
    broken = []
    for name, page in site.pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = Path(os.path.normpath(Path(name).parent / unquote(parts.path))) if parts.path else Path(name)
            ids = site.pages[str(target)].ids if str(target) in site.pages else None
            if not (site.folder / target).is_file() or (ids and parts.fragment and unquote(parts.fragment) not in ids):
                broken.append(f"{name}: {link}")
    assert not broken


def test_links_to_pages_of_the_repository_became_links_to_pages_of_the_site(site: Site) -> None:
    for name, page in site.pages.items():
        assert not [link for link in page.links if not urlsplit(link).scheme and urlsplit(link).path.endswith(".md")], (
            name
        )


def test_a_browser_loads_nothing_from_elsewhere(site: Site) -> None:
    loaded = {link for page in site.pages.values() for link in page.loaded if urlsplit(link).netloc}
    assert not loaded


def test_every_page_of_the_docs_can_be_reached_from_the_first(site: Site) -> None:
    reached, todo = set(), ["index.html"]
    while todo:
        name = todo.pop()
        if name not in reached and name in site.pages:
            reached.add(name)
            paths = (unquote(urlsplit(link).path) for link in site.pages[name].links if not urlsplit(link).scheme)
            todo += [os.path.normpath(Path(name).parent / path) for path in paths if path]
    assert {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")} <= reached
    assert {
        "readme.html",
        "changelog.html",
        "contributing.html",
        "model-card.html",
        "tutorials/index.html",
    } <= reached


# The library and the commands


def test_every_public_name_has_a_place_in_the_library(site: Site) -> None:
    described = {at for name, page in site.pages.items() if name.startswith("api/") for at in page.ids}
    assert {f"judgeq.{name}" for name in judgeq.__all__} <= described


def test_public_names_are_described_not_just_listed(site: Site) -> None:
    text = " ".join(site.pages["api/index.html"].text.split())
    for name in ("load", "ask", "stream", "read", "compare", "ask_many", "sweep"):
        first = str(getattr(judgeq, name).__doc__).split(".")[0].replace("`", "").split(":")[0]
        assert " ".join(first.split())[:40].replace("'", "’") in text, name


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_an_example(verb: str) -> None:
    examples = "\n".join(re.findall(r"^```sh\n(.*?)^```", said_of(verb), re.MULTILINE | re.DOTALL))
    assert re.search(rf"^python -m judgeq {verb}( |$)", examples, re.MULTILINE)


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_shows_all_of_its_options(site: Site, verb: str) -> None:
    options = [action.option_strings[:1] for action in VERBS[verb]._actions if action.dest != "help"]
    if options:
        assert f"<!-- options: {verb} -->" in said_of(verb)
    text = site.pages["commands.html"].text
    example = text.index(f"python -m judgeq {verb}")
    assert all(option in text[example:] for spelled in options for option in spelled)


def test_long_commands_are_folded_without_being_changed(site: Site) -> None:
    shown = [line for line in site.pages["commands.html"].text.splitlines() if " --" in line]
    blocks = re.findall(r"^```sh\n(.*?)^```", (DOCS / "commands.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    written = "".join(blocks).splitlines()
    assert max(map(len, written)) > 100
    assert max(len(line) for line in shown if line.endswith("\\")) < 90
    unfolded = re.sub(r" \\\n +", " ", "\n".join(shown))
    assert all(line in unfolded for line in written if " --" in line)


# Notebooks


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository with the site's settings and one page."""
    (tmp_path / "docs").mkdir()
    for name in ("conf.py", "figures.py", "library.py", "repository.py", "_static"):
        copy = shutil.copytree if (DOCS / name).is_dir() else shutil.copy2
        copy(DOCS / name, tmp_path / "docs" / name)
    (tmp_path / "docs" / "index.md").write_text("# Small\n\n```{toctree}\ntutorials/index\n```\n", "utf-8")
    return tmp_path


def test_a_notebook_is_shown_with_its_stored_outputs(small: Path, tmp_path: Path) -> None:
    (small / "tutorials").mkdir()
    (small / "tutorials" / "01_first.ipynb").write_text(notebook(), encoding="utf-8")
    site = build(small, tmp_path / "out")
    page = site.pages["tutorials/01_first.html"]
    assert "a stored output" in page.text
    assert [link for link in page.loaded if link.endswith(".png")]
    assert not [link for link in page.loaded if link.startswith(NOBODY)]
    assert "../index.html" in page.links
    assert "01_first.html" in site.pages["tutorials/index.html"].links


@pytest.mark.parametrize("path", ROOT.glob("tutorials/*.ipynb"), ids=lambda path: path.stem)
def test_the_site_can_show_every_output_of_a_notebook(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if "data" in output]
    assert all(SHOWN & set(output["data"]) for output in outputs)


def test_the_site_builds_without_notebooks(small: Path, tmp_path: Path) -> None:
    site = build(small, tmp_path / "out")
    assert "no notebooks" in site.pages["tutorials/index.html"].text
