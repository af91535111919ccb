"""How to cite judgeq is valid and of this version, as is the changelog."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Citation File Format 1.2.0: what must be there, and what else may be.
REQUIRED = {"authors", "cff-version", "message", "title"}
ALLOWED = REQUIRED | set(
    "abstract commit contact date-released doi identifiers keywords license license-url preferred-citation "
    "references repository repository-artifact repository-code type url version".split()
)
PERSON = {"given-names", "family-names"}


def version() -> str:
    """What pyproject.toml points to."""
    module, name = PROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"].rsplit(".", 1)
    return str(getattr(import_module(module), name))


def test_the_citation_has_the_keys_that_its_format_asks_for() -> None:
    assert set(CITATION) >= REQUIRED
    assert set(CITATION) <= ALLOWED
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] in {"software", "dataset"}
    assert all(isinstance(CITATION[key], str) and CITATION[key] for key in ("message", "title", "version"))


def test_version_and_licence_are_those_of_the_package() -> None:
    assert CITATION["version"] == version()
    assert CITATION["license"] == PROJECT["project"]["license"]


@pytest.mark.parametrize("work", [CITATION, *CITATION["references"]], ids=lambda work: work["type"])
def test_every_work_has_a_title_and_authors(work: dict[str, Any]) -> None:
    assert {"authors", "title", "type"} <= set(work)
    assert work["authors"]
    for author in work["authors"]:
        assert set(author) in ({"name"}, PERSON)
        assert all(author.values())


def test_the_paper_is_named() -> None:
    (paper,) = CITATION["references"]
    assert [each["value"] for each in paper["identifiers"]] == ["arXiv:2509.10798"]
    assert paper["url"].endswith("2509.10798")


def test_the_changelog_begins_with_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(.+?)\] - (not released yet|\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)
    assert newest
    assert newest[1] == version()
