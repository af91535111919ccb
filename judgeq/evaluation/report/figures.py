"""Plotly figures: score over budget, needle heatmaps, moved questions, hit rate by layer, speed.

On the page legends, colour bars and captions are the page's; `draw_…` give figures that are complete, for notebooks.
Every name is untrusted: Plotly reads a subset of HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block, BytePoint, Move, Moves, byte_points
from judgeq.evaluation.report.read import Row, SpeedFile
from judgeq.evaluation.report.styles import styles_of
from judgeq.evaluation.report.words import FULL, budget_title, kind_of, length_title, method_title
from judgeq.look.figures import LEGEND_BELOW, hover_text, styled
from judgeq.look.palette import BLUE, ORANGE, SEQUENTIAL
from judgeq.methods import Look

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

SPREAD = 0.04
"""Distance of neighbouring methods at one budget, so that their intervals do not cover one another."""
MOST_TEXTS = 8
"""Columns of a small heatmap up to which the numbers fit into its cells."""
PERCENT = {"range": [-3, 103], "tickvals": [0, 25, 50, 75, 100], "ticktext": ["0", "25", "50", "75", "100 %"]}
"""An axis of shares: the same in all figures, so that they compare."""
BYTE_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
"""Shares of the full cache's bytes that the axis names."""
BESIDE = 4
"""Heatmaps in a row of a figure."""
PANEL, LABELS = 24, 92
"""Pixels of a depth, and of what surrounds the depths of a row of heatmaps."""

Styles = Mapping[str, Look]


def budget_curves(block: Block, length: int | None, styles: Styles) -> Figure:
    """Average score over budget, one line a method with its intervals; the full cache as a line across."""
    budgets, traces = block.budgets, []
    full = block.full_average(length)
    if full is not None:
        traces.append(_across(full.score, len(budgets), styles[full.method], "%"))
    for at, method in enumerate(block.methods):
        rows = [block.average(method, budget, length) for budget in budgets]
        shift = SPREAD * (at - (len(block.methods) - 1) / 2)
        if any(rows):
            scores = [None if row is None else row.score for row in rows]
            hover = ", %{text}: %{y:.1f} %"
            places, text = _places(budgets, shift), block.budget_titles
            traces.append(_curve(method, styles[method], places, scores, hover, intervals=rows, text=text))
    figure = _framed(traces, height=270)
    short = [isinstance(budget, int) or block.per is not None for budget in budgets]  # the axis has the unit
    ticks = [text.split()[0] if cut else text for text, cut in zip(block.budget_titles, short, strict=True)]
    figure.update_xaxes(**_ticks(ticks), range=[-0.35, len(budgets) - 0.65], title=_axis_title(block))
    return figure.update_yaxes(**PERCENT)


def byte_curves(block: Block, length: int | None, styles: Styles) -> Figure | None:
    """Average score over bytes, a line a method, on a logarithmic axis; None where the file does not have the bytes."""
    points = byte_points(block, length)
    if not points:
        return None
    traces = [
        _curve(
            method,
            styles[method],
            [round(100 * point.share, 3) for point in found],
            [point.score for point in found],
            ", %{text} (%{x:.3g} % of the bytes): %{y:.1f} %",
            intervals=found,
            text=[point.detail for point in found],
        )
        for method, found in points.items()
    ]
    figure = _framed(traces, height=270)
    shares = [point.share for found in points.values() for point in found]
    ticks = [share for share in BYTE_TICKS if min(shares) <= share * 1.3 and share <= 1.3 * max(shares)]
    figure.update_xaxes(
        type="log",
        tickvals=[100 * share for share in ticks],
        ticktext=[f"{100 * share:g} %" for share in ticks],
        title="bytes, of the full cache’s",
    )
    return figure.update_yaxes(**PERCENT)


def layer_curves(block: Block, budget: Budget, styles: Styles) -> Figure:
    """Hit rate from the first layer to the last, one line a method."""
    traces = [
        _curve(method, styles[method], list(range(len(rates))), rates, ", layer %{x}: %{y:.1f} %", size=6)
        for method, rates in block.layer_rates(budget).items()
    ]
    figure = _framed(traces, height=270)
    figure.update_xaxes(title="layer", nticks=8)
    return figure.update_yaxes(**PERCENT)


def moved_points(moves: Moves, per: int | None, styles: Styles) -> Figure:
    """Points that each method gains or loses when the question is first, side by side at each budget."""
    budgets = list(dict.fromkeys(budget for method, budget in moves if kind_of(method) != FULL))
    methods = [method for method in dict.fromkeys(method for method, _ in moves) if kind_of(method) != FULL]
    ticks = [budget_title(budget, per) for budget in budgets]
    traces = [
        _across(move.change, len(budgets), styles[method], "points")
        for (method, _), move in moves.items()
        if kind_of(method) == FULL
    ]
    for at, method in enumerate(methods):
        own = [moves.get((method, budget)) for budget in budgets]
        places = _places(budgets, 0.8 * ((at + 0.5) / len(methods) - 0.5))
        changes, hover = (
            [None if move is None else move.change for move in own],
            ", %{text}: %{y:+.1f} points",
        )
        more: dict[str, Any] = {"intervals": own, "text": ticks, "mode": "markers", "size": 10}
        traces.append(_curve(method, styles[method], places, changes, hover, **more))
    figure = _framed(traces, height=300)
    figure.update_xaxes(**_ticks(ticks), range=[-0.5, len(ticks) - 0.5])
    return figure.update_yaxes(zeroline=True, zerolinewidth=1.5, title="points", tickformat="+d", nticks=6)


def needle_heatmap(block: Block, method: str, budget: Budget) -> Figure:
    """Scores by depth and length, from 0 to 1 on the scale that all heatmaps share."""
    from plotly.graph_objects import Heatmap

    rows = [[block.needle(method, budget, depth, length) for length in block.lengths] for depth in block.depths]
    lengths, depths = list(map(_thousands, block.lengths)), list(map(str, block.depths))
    trace = Heatmap(
        z=[[None if row is None else round(row.score, 4) for row in line] for line in rows],
        x=list(range(len(lengths))),
        y=list(range(len(depths))),
        customdata=[[[f"{length:,}", depth] for length in block.lengths] for depth in block.depths],
        hovertemplate="%{customdata[0]} tokens, depth %{customdata[1]} %: %{z:.1%}<extra></extra>",
        text=[["" if row is None else f"{100 * row.score:.0f}" for row in line] for line in rows],
        texttemplate="%{text}" if len(lengths) <= MOST_TEXTS else None,
        textfont={"size": 11},
        hoverongaps=False,
        colorscale=SEQUENTIAL,
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=1,
        ygap=1,
    )
    figure = _framed([trace], height=72 + PANEL * max(len(block.depths), 3))
    figure.update_layout(margin={"l": 34, "r": 2, "t": 4, "b": 34})
    figure.update_xaxes(**_ticks(lengths), ticks="", nticks=6)
    return figure.update_yaxes(**_ticks(depths), ticks="", range=[len(depths) - 0.5, -0.5], showgrid=False)


def speed_figure(file: SpeedFile) -> Figure:
    """How many times faster a later token is than with the full cache, next to what the roofline allows."""
    from plotly.graph_objects import Bar

    rows = [row for row in file.rows if row.roofline is not None]
    traces = [
        Bar(
            y=[hover_text(row.label) for row in rows],
            x=[round(value, 3) for value in values if value is not None],
            orientation="h",
            name=title,
            marker={"color": color},
            hovertemplate=f"%{{y}}, {title}: %{{x:.2f}} times<extra></extra>",
        )
        for title, color, values in (
            ("measured", BLUE, [row.speedup for row in rows]),
            ("roofline", ORANGE, [row.roofline for row in rows]),
        )
    ]
    figure = _framed(traces, height=110 + 44 * len(rows), barmode="group", showlegend=True)
    figure.update_layout(margin={"l": 10, "t": 34})
    figure.update_xaxes(title="times as fast as the full cache", rangemode="tozero")
    return figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)


# Single figures


def draw_scores(block: Block, length: int | None = None) -> Figure:
    """Average score, or hit rate, over budget: a line a method with its 95 % intervals, where the file has some.

    Args:
        length: of the prompts; None takes the average over all lengths.
    """
    scope = length if length is not None else block.scopes[0]
    spans = f", {length_title(scope)}" if block.lengths else ""
    figure = budget_curves(block, scope, styles_of(block.all_methods))
    return _named(figure, f"{block.title}{spans}", height=380)


def draw_layers(block: Block, budget: Budget) -> Figure:
    """Hit rate from the first layer to the last, a line a method."""
    title = f"{block.title}, {budget_title(budget, block.per)}"
    return _named(layer_curves(block, budget, styles_of(block.methods)), title, height=360)


def draw_needles(block: Block, budget: Budget) -> Figure:
    """Depth by length, a heatmap a method on one scale; the full cache first."""
    from plotly.subplots import make_subplots

    columns = min(BESIDE, len(block.all_methods))
    rows = -(-len(block.all_methods) // columns)
    titles = [hover_text(method_title(method)) for method in block.all_methods]
    bar = {"tickvals": [0, 0.5, 1], "ticktext": ["0 %", "50 %", "100 %"], "thickness": 12}
    bar["title"] = {"text": "found", "side": "top"}
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.06)
    height = 60 + rows * (LABELS + PANEL * max(len(block.depths), 3))
    _frame(figure, height=height, title=f"{hover_text(block.title)}, {budget_title(budget, block.per)}")
    for at, method in enumerate(block.all_methods):
        place = {"row": at // columns + 1, "col": at % columns + 1}
        drawn = needle_heatmap(block, method, budget)
        figure.add_trace(drawn.data[0].update(showscale=at == 0, colorbar=bar), **place)
        across, down = drawn.layout.xaxis, drawn.layout.yaxis
        figure.update_xaxes(tickvals=across.tickvals, ticktext=across.ticktext, title="tokens", **place)
        figure.update_yaxes(tickvals=down.tickvals, ticktext=down.ticktext, range=down.range, showgrid=False, **place)
    figure.update_yaxes(title="depth, %", col=1)
    return figure.update_layout(margin={"l": 60, "r": 20, "t": 84, "b": 50})


def _named(figure: Figure, title: str, height: int) -> Figure:
    """The same with a title above and a legend below."""
    margin = {"l": 60, "r": 20, "t": 50, "b": 110}
    return figure.update_layout(
        title=hover_text(title), height=height, showlegend=True, legend=LEGEND_BELOW, margin=margin
    )


def _framed(traces: Sequence[Any], **layout: Any) -> Figure:
    from plotly.graph_objects import Figure

    return _frame(Figure(list(traces)), **layout)


def _frame(figure: Figure, **layout: Any) -> Figure:
    """Small, without a legend, and nothing to drag."""
    margin = {"l": 50, "r": 10, "t": 10, "b": 44}
    styled(figure, **{"showlegend": False, "font": {"size": 12}, "margin": margin, **layout})
    figure.update_xaxes(fixedrange=True)
    return figure.update_yaxes(fixedrange=True)


def _curve(
    method: str,
    style: Look,
    x: Sequence[float],
    shares: Sequence[float | None],
    hover: str,
    *,
    intervals: Sequence[Row | Move | BytePoint | None] = (),
    mode: str = "lines+markers",
    size: int = 9,
    **options: Any,
) -> Scatter:
    """A method's values in its style, in points, with error bars where there are intervals."""
    from plotly.graph_objects import Scatter

    name = hover_text(method_title(method))
    return Scatter(
        x=x,
        y=[None if share is None else round(100 * share, 2) for share in shares],
        name=name,
        mode=mode,
        line={"color": style.color, "dash": style.dash, "width": 2},
        marker={"color": style.color, "symbol": style.symbol, "size": size},
        error_y=_bars(zip(shares, intervals, strict=True), style.color) if intervals else None,
        hovertemplate=f"{name}{hover}<extra></extra>",
        **options,
    )


def _places(budgets: Sequence[Budget], shift: float) -> list[float]:
    return [place + shift for place in range(len(budgets))]


def _ticks(labels: Sequence[str]) -> dict[str, Any]:
    """An axis that names its places from 0 on."""
    return {"tickvals": list(range(len(labels))), "ticktext": list(labels)}


def _across(share: float, budgets: int, style: Look, unit: str) -> Scatter:
    """The full cache, which has no budget: a line from side to side."""
    return _curve(FULL, style, [-0.5, budgets - 0.5], [share] * 2, f": %{{y:.1f}} {unit}", mode="lines")


def _bars(values: Iterable[tuple[float | None, Row | Move | BytePoint | None]], color: str) -> dict[str, Any]:
    """Plotly's error bars from intervals, in points, paler than the markers; none where there is no interval."""
    above, below = [], []
    for shown, measured in values:
        share = shown or 0.0
        low, high = (measured and measured.interval) or (share, share)
        above.append(round(100 * max(high - share, 0), 2))
        below.append(round(100 * max(share - low, 0), 2))
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
