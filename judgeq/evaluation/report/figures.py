"""Plotly figures from blocks: score over budget, needle heatmaps, moved questions, hit rate by layer.

Legends, colour bars and captions are the page's. Every name is untrusted: Plotly reads a subset of HTML.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block, Move
from judgeq.evaluation.report.read import Interval
from judgeq.evaluation.report.tables import layer_rates, needle
from judgeq.evaluation.report.words import FULL, budget_title, kind_of, method_title
from judgeq.look.figures import hover_text
from judgeq.look.palette import GREY
from judgeq.methods import Look

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

SPREAD = 0.04
"""Distance of neighbouring methods at one budget, so that their intervals do not cover one another."""
MOST_TEXTS = 8
"""Columns of a small heatmap up to which the numbers fit into its cells."""
SCALE = "Cividis"
PERCENT = {"range": [-3, 103], "tickvals": [0, 25, 50, 75, 100], "ticktext": ["0", "25", "50", "75", "100 %"]}
"""An axis of shares: the same in all figures, so that they compare."""

Measured = tuple[float, Interval | None]


def budget_curves(block: Block, length: int | None, styles: Mapping[str, Look]) -> Figure:
    """Average score over budget, one line a method with its intervals; the full cache as a line across."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    budgets = block.budgets
    full = block.full_average(length)
    if full is not None:
        figure.add_trace(_across(100 * full.score, len(budgets), styles[full.method], "%"))
    for at, method in enumerate(block.methods):
        rows = [block.average(method, budget, length) for budget in budgets]
        if not any(rows):
            continue
        shift = SPREAD * (at - (len(block.methods) - 1) / 2)
        style = styles[method]
        figure.add_trace(
            Scatter(
                x=[place + shift for place in range(len(budgets))],
                y=[None if row is None else round(100 * row.score, 2) for row in rows],
                error_y=_bars([(row.score, row.interval) if row else None for row in rows], style.color),
                name=hover_text(method_title(method)),
                mode="lines+markers",
                line={"color": style.color, "dash": style.dash, "width": 2},
                marker={"color": style.color, "symbol": style.symbol, "size": 9},
                text=[budget_title(budget, block.per) for budget in budgets],
                hovertemplate=f"{hover_text(method_title(method))}, %{{text}}: %{{y:.1f}} %<extra></extra>",
            )
        )
    frame(figure, height=270)
    short = [_short(budget, block.per) for budget in budgets]
    figure.update_xaxes(
        tickvals=list(range(len(budgets))),
        ticktext=short,
        range=[-0.35, len(budgets) - 0.65],
        title=_axis_title(block),
    )
    figure.update_yaxes(**PERCENT)
    return figure


def needle_values(block: Block, method: str, budget: Budget) -> np.ndarray:
    """(depths, lengths) scores from 0 to 1; NaN where nothing was measured."""
    rows = [
        [needle(block, method, budget, depth, length) for length in block.lengths] for depth in block.depths
    ]
    return np.array([[np.nan if row is None else row.score for row in line] for line in rows])


def needle_heatmap(block: Block, method: str, budget: Budget) -> Figure:
    """Scores by depth and length, from 0 to 1 on the scale that all heatmaps share."""
    from plotly.graph_objects import Figure, Heatmap

    values = needle_values(block, method, budget)
    lengths = [_thousands(length) for length in block.lengths]
    figure = Figure(
        Heatmap(
            z=[[None if np.isnan(value) else round(float(value), 4) for value in line] for line in values],
            x=list(range(len(lengths))),
            y=list(range(len(block.depths))),
            customdata=[[[f"{length:,}", depth] for length in block.lengths] for depth in block.depths],
            hovertemplate="%{customdata[0]} tokens, depth %{customdata[1]} %: %{z:.1%}<extra></extra>",
            text=[["" if np.isnan(value) else f"{100 * value:.0f}" for value in line] for line in values],
            texttemplate="%{text}" if len(lengths) <= MOST_TEXTS else None,
            textfont={"size": 11},
            hoverongaps=False,
            colorscale=SCALE,
            zmin=0,
            zmax=1,
            showscale=False,
            xgap=1,
            ygap=1,
        )
    )
    frame(figure, height=72 + 24 * max(len(block.depths), 3))
    figure.update_layout(margin={"l": 34, "r": 2, "t": 4, "b": 34})
    figure.update_xaxes(
        tickvals=list(range(len(lengths))), ticktext=lengths, showgrid=False, ticks="", nticks=6
    )
    figure.update_yaxes(
        tickvals=list(range(len(block.depths))),
        ticktext=[str(depth) for depth in block.depths],
        ticks="",
        range=[len(block.depths) - 0.5, -0.5],
        showgrid=False,
    )
    return figure


def moved_points(
    moves: Mapping[tuple[str, Budget], Move], per: int | None, styles: Mapping[str, Look]
) -> Figure:
    """Points that each method gains or loses when the question is first, side by side at each budget."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    budgets = list(dict.fromkeys(budget for method, budget in moves if kind_of(method) != FULL))
    methods = [method for method in dict.fromkeys(method for method, _ in moves) if kind_of(method) != FULL]
    for (method, _), move in moves.items():
        if kind_of(method) == FULL:
            figure.add_trace(_across(100 * move.change, len(budgets), styles[method], "points"))
    for at, method in enumerate(methods):
        own = [moves.get((method, budget)) for budget in budgets]
        shift = 0.8 * ((at + 0.5) / len(methods) - 0.5)
        style = styles[method]
        figure.add_trace(
            Scatter(
                x=[place + shift for place in range(len(budgets))],
                y=[None if move is None else round(100 * move.change, 2) for move in own],
                error_y=_bars([(move.change, move.interval) if move else None for move in own], style.color),
                mode="markers",
                marker={"color": style.color, "symbol": style.symbol, "size": 10},
                text=[budget_title(budget, per) for budget in budgets],
                hovertemplate=f"{hover_text(method_title(method))}, %{{text}}: %{{y:+.1f}} points<extra></extra>",
            )
        )
    frame(figure, height=300)
    ticks = [budget_title(budget, per) for budget in budgets]
    figure.update_xaxes(tickvals=list(range(len(ticks))), ticktext=ticks, range=[-0.5, len(ticks) - 0.5])
    figure.update_yaxes(zeroline=True, zerolinewidth=1.5, title="points", tickformat="+d", nticks=6)
    return figure


def layer_curves(block: Block, budget: Budget, styles: Mapping[str, Look]) -> Figure:
    """Hit rate from the first layer to the last, one line a method."""
    from plotly.graph_objects import Figure, Scatter

    figure = Figure()
    for method, rates in layer_rates(block, budget).items():
        style = styles[method]
        figure.add_trace(
            Scatter(
                x=list(range(len(rates))),
                y=[round(100 * rate, 2) for rate in rates],
                name=hover_text(method_title(method)),
                mode="lines+markers",
                line={"color": style.color, "dash": style.dash, "width": 2},
                marker={"color": style.color, "symbol": style.symbol, "size": 6},
                hovertemplate=f"{hover_text(method_title(method))}, layer %{{x}}: %{{y:.1f}} %<extra></extra>",
            )
        )
    frame(figure, height=270)
    figure.update_xaxes(title="layer", nticks=8)
    figure.update_yaxes(**PERCENT)
    return figure


def _across(height: float, budgets: int, style: Look, unit: str) -> Scatter:
    """The full cache, which has no budget: a line from side to side."""
    from plotly.graph_objects import Scatter

    return Scatter(
        x=[-0.5, budgets - 0.5],
        y=[round(height, 2)] * 2,
        name=method_title(FULL),
        mode="lines",
        line={"color": style.color, "dash": style.dash, "width": 2},
        hovertemplate=f"{method_title(FULL)}: %{{y:.1f}} {unit}<extra></extra>",
    )


def _bars(values: list[Measured | None], color: str) -> dict[str, Any]:
    """Plotly's error bars from intervals, in points, paler than the markers; none where there is no interval."""
    above, below = [], []
    for measured in values:
        value, interval = measured or (0.0, None)
        low, high = interval or (value, value)
        above.append(round(100 * max(high - value, 0), 2))
        below.append(round(100 * max(value - low, 0), 2))
    return {
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "color": f"rgba({','.join(str(int(color[at : at + 2], 16)) for at in (1, 3, 5))},0.55)",
        "thickness": 1.2,
        "width": 3,
        "visible": any(above) or any(below),
    }


def _short(budget: Budget, per: int | None) -> str:
    """A tick: the axis says of what."""
    if isinstance(budget, float) and per:
        return f"{budget * per:,.0f}"
    return f"{budget:,}" if isinstance(budget, int) else budget_title(budget)


def _axis_title(block: Block) -> str:
    kinds = {type(budget) for budget in block.budgets}
    if kinds == {int}:
        return "rows per KV head"
    if kinds == {float}:
        return f"rows per {block.per:,} tokens" if block.per else "share of the prompt"
    return "budget"


def _thousands(length: int) -> str:
    """`512`, `1k`, `1.5k`: a tick that fits under a narrow column; lengths are mostly powers of two."""
    if length < 1000:
        return str(length)
    unit = 1024 if length % 256 == 0 else 1000
    return f"{length / unit:.3g}k"


def frame(figure: Figure, height: int) -> None:
    """No background, no legend; grey is overridden by the page, which knows light from dark."""
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": GREY, "size": 12},
        margin={"l": 50, "r": 10, "t": 10, "b": 44},
        height=height,
        autosize=True,
        showlegend=False,
        dragmode=False,  # a finger on the figure scrolls the page
        hoverlabel={"align": "left", "bgcolor": "#1b1d22", "font": {"color": "#f4f1ea", "size": 13}},
    )
    figure.update_xaxes(showgrid=False, zeroline=False, fixedrange=True, title={"standoff": 6})
    figure.update_yaxes(
        gridcolor="rgba(136,136,136,0.35)",
        zeroline=False,
        zerolinecolor=GREY,
        fixedrange=True,
        title={"standoff": 4},
    )
