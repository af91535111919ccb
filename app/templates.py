"""Jinja2 templates of the sections. Values are escaped, so that nothing a visitor brings becomes markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader

from app import text
from judgeq.look.pages import environment

TEMPLATES = environment().overlay(loader=FileSystemLoader(Path(__file__).parent / "sections"))


def render(template: str, **values: Any) -> str:
    """The HTML of a template in `app/sections`, such as `ask/cards.j2`; every template also gets `text`."""
    return TEMPLATES.get_template(template).render(values, text=text)
