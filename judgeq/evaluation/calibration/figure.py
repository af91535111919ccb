"""The curve of a calibration: what survives at each budget, with its bounds, and what is promised."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from judgeq.evaluation.report.styles import styles_of
from judgeq.look.figures import over_rows
from judgeq.look.format import percent, size
from judgeq.look.palette import GREY
from judgeq.methods import title_of

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from judgeq.evaluation.calibration.result import Calibration

HEIGHT = 380


def curve(found: Calibration) -> Figure:
    """Share of answers that survive over the share of rows; the band is from the lower bound to the upper one."""
    from plotly.graph_objects import Figure, Scatter

    points = sorted(found.points, key=lambda point: point.share)
    look = styles_of([found.method])[found.method]
    x = [100 * point.share for point in points]
    survive = [100 * point.survived / found.questions for point in points]
    sure = percent(found.confidence)
    drawn = Figure()
    drawn.add_trace(
        Scatter(
            x=[*x, *reversed(x)],
            y=[100 * point.low for point in points] + [100 * point.high for point in reversed(points)],
            mode="lines",
            fill="toself",
            fillcolor=_clear(look.color),
            line={"width": 0},
            hoverinfo="skip",
            name=f"Bounds, each {sure} sure",
        )
    )
    drawn.add_trace(
        Scatter(
            x=x,
            y=survive,
            mode="lines+markers",
            cliponaxis=False,
            name=html.escape(title_of(found.method)),
            line={"color": look.color, "dash": look.dash, "width": 2.5},
            marker={"symbol": look.symbol, "size": [15 if point == found.point else 9 for point in points]},
            customdata=[
                [
                    point.survived,
                    found.questions,
                    percent(point.low),
                    percent(point.high),
                    size(point.kv_bytes),
                ]
                for point in points
            ],
            hovertemplate=(
                "%{customdata[0]} of %{customdata[1]} survive with %{x:.3g} % of the rows, %{customdata[4]}"
                "<br>at least %{customdata[2]}, at most %{customdata[3]}<extra></extra>"
            ),
        )
    )
    drawn.add_hline(
        y=100 * (1 - found.risk),
        line={"color": GREY, "dash": "dot", "width": 1.5},
        annotation={
            "text": f"asked for: {percent(1 - found.risk)}",
            "xanchor": "left",
            "x": 0,
            "yanchor": "bottom",
            "font": {"size": 12, "color": GREY},
        },
    )
    over_rows(drawn, min(x), HEIGHT)
    drawn.update_xaxes(title={"text": "Rows kept, in % of all", "font": {"size": 13}})
    drawn.update_yaxes(title={"text": "Answers that survive", "font": {"size": 13}})
    return drawn


def _clear(color: str) -> str:
    """A colour of six hex digits, nearly transparent."""
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},.18)"
