"""Style sheets and Jinja2 templates of this folder. What a template prints is escaped, control characters visible."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from judgeq.look.format import duration, percent, size, visible


def render(name: str, **context: Any) -> str:
    """A template, `templates/NAME`, filled in. `Markup` among the values is HTML already, all other text is untrusted.

    Raises:
        jinja2.UndefinedError: the template uses a name that `context` does not have.
    """
    return environment().get_template(name).render(**context)


@cache
def environment() -> Environment:
    """Autoescape on, undefined names refused, filters `visible`, `percent`, `size` and `duration`."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters |= {"visible": visible, "percent": percent, "size": size, "duration": duration}
    return made


@cache
def css(*names: str) -> Markup:
    """Style sheets of this folder, `css("base", "report")`, one after another without comments and line ends."""
    text = "".join(files("judgeq.look").joinpath(f"{name}.css").read_text(encoding="utf-8") for name in names)
    return Markup(re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)).strip())


@cache
def script(name: str) -> Markup:
    """A script of this folder, to be put inside a script element."""
    return Markup(files("judgeq.look").joinpath(f"{name}.js").read_text(encoding="utf-8"))


def _finalize(value: Any) -> Any:
    """What is printed in the place of a value: plain text with visible control characters."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
