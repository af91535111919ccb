"""The page that the code of a message links to: every message of the library, what happened and what to do."""

from __future__ import annotations

from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from markupsafe import Markup

from judgeq.commands.errors import explained
from judgeq.look.pages import css, render
from judgeq.look.palette import variables


async def page() -> HTMLResponse:
    """Read from the source at each request: these are few."""
    style = Markup(variables()) + css("base")
    return HTMLResponse(render("errors.html.j2", style=style, messages=explained()))


ROUTES = [APIRoute("/errors", page)]
