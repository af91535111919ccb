"""The style sheet: the palette's colours and fonts as variables, and the rules in the CSS files of this folder."""

from __future__ import annotations

from importlib.resources import files

from judgeq.look.pages import css
from judgeq.look.palette import variables

CSS = variables(".gradio-container", light="body:not(.dark) .gradio-container", dark=".dark .gradio-container,.dark")
CSS += str(css("glow")) + "".join(
    files("app.style").joinpath(name).read_text("utf-8") for name in ("page.css", "sections.css")
)
