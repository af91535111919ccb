"""One look: colours that can be read, templates that escape, one template for figures."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup
from plotly.graph_objects import Figure

from judgeq.look import figures, pages
from judgeq.look.palette import DARK, LIGHT, SERIES, variables

ON = {
    "paper": ("ink", "soft", "link", "good", "bad", "evicted", "line"),
    "page": ("ink", "soft", "link"),
    "quiet": ("ink", "soft"),
    "ink": ("paper",),
    "good-bg": ("good",),
    "bad-bg": ("bad",),
    **dict.fromkeys(("best", "level-2", "level-3", "only-a", "only-b", "both"), ("ink",)),
    **dict.fromkeys(("level-4", "level-5"), ("on",)),
}


def contrast(one: str, other: str) -> float:
    """Of WCAG 2, from 1 to 21."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_on_its_background(theme: dict[str, str]) -> None:
    pairs = [(text, background) for background, texts in ON.items() for text in texts]
    weak = {pair: contrast(*(theme[name] for name in pair)) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    assert all(contrast(color, theme["paper"]) > 3 for color in (*SERIES, theme["faint"]))
    assert contrast(theme["line"], theme["level-3"]) >= 3


def test_light_and_dark_name_the_same_colours() -> None:
    assert set(LIGHT) == set(DARK)
    text = variables(".box", light=".is-light .box", dark=".is-dark .box")
    assert text.count("--jq-ink:#1d1b17") == text.count("--jq-ink:#f0ece3") == 2
    assert text.index("prefers-color-scheme:dark") < text.index(".is-light .box{")


def test_every_variable_of_the_style_sheets_is_in_the_palette() -> None:
    import re
    from pathlib import Path

    known = variables()
    for sheet in Path(pages.__file__).parent.glob("*.css"):
        used = set(re.findall(r"var\((--jq-[\w-]+)\)", sheet.read_text("utf-8")))
        assert {name for name in used if f"{name}:" not in known} == set(), sheet.name


def test_templates_escape_and_show_control_characters() -> None:
    template = pages.environment().from_string('<p title="{{ text }}">{{ text }}{{ html }}</p>{{ share | percent }}')
    page = template.render(text='<b>"\x00\u202e', html=Markup("<i>"), share=0.5)
    shown = "&lt;b&gt;&#34;\u2400\ufffd"
    assert page == f'<p title="{shown}">{shown}<i></p>50\N{NO-BREAK SPACE}%'
    with pytest.raises(UndefinedError):
        template.render(text="", html="")


def test_a_figure_has_the_one_template_and_no_other() -> None:
    figure = figures.styled(Figure(), height=300)
    assert figure.layout.height == 300
    assert figure.layout.template.layout.paper_bgcolor == "rgba(0,0,0,0)"
    assert len(figure.to_json()) < 1500


@pytest.mark.parametrize(
    ("text", "shown"), [("<b>x\n\ty</b>", "&lt;b&gt;x y&lt;/b&gt;"), ("a" * 60, f"{'a' * 24} … {'a' * 24}")]
)
def test_hover_text_is_one_short_line_that_plotly_shows_as_written(text: str, shown: str) -> None:
    assert figures.hover_text(text) == shown
