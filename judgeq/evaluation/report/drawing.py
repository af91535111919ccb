"""Figures that stand alone, for notebooks: with the legend, titles and colour bar that a page has beside its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from judgeq.config import Budget
from judgeq.evaluation.report.blocks import Block
from judgeq.evaluation.report.figures import budget_curves, frame, layer_curves, needle_heatmap
from judgeq.evaluation.report.styles import styles_of
from judgeq.evaluation.report.words import budget_title, length_title, method_title
from judgeq.look.figures import hover_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BESIDE = 4
"""Heatmaps in a row."""
PANEL, LABELS = 24, 92
"""Pixels of a depth, and of what stands around the depths of a row of heatmaps."""


def draw_scores(block: Block, length: int | None = None) -> Figure:
    """Average score, or hit rate, over budget: a line a method with its 95 % intervals, where the file has some.

    Args:
        length: of the prompts; None takes the average over all lengths.
    """
    methods = [method for method in (block.full, *block.methods) if method is not None]
    scope = length if length is not None else block.scopes[0]
    spans = f", {length_title(scope)}" if block.lengths else ""
    return _named(budget_curves(block, scope, styles_of(methods)), f"{block.title}{spans}", height=380)


def draw_layers(block: Block, budget: Budget) -> Figure:
    """Hit rate from the first layer to the last, a line a method."""
    title = f"{block.title}, {budget_title(budget, block.per)}"
    return _named(layer_curves(block, budget, styles_of(block.methods)), title, height=360)


def draw_needles(block: Block, budget: Budget) -> Figure:
    """Depth by length, a heatmap a method on one scale; the full cache first."""
    from plotly.subplots import make_subplots

    full = [] if block.full is None else [(block.full, 1.0)]
    asked = [*full, *((method, budget) for method in block.methods)]
    columns = min(BESIDE, len(asked))
    rows = -(-len(asked) // columns)
    titles = [hover_text(method_title(method)) for method, _ in asked]
    figure = make_subplots(rows, columns, subplot_titles=titles, horizontal_spacing=0.06)
    frame(figure, height=60 + rows * (LABELS + PANEL * max(len(block.depths), 3)))
    for at, (method, rows_kept) in enumerate(asked):
        place = {"row": at // columns + 1, "col": at % columns + 1}
        drawn = needle_heatmap(block, method, rows_kept)
        figure.add_trace(drawn.data[0].update(showscale=at == 0, colorbar=_COLOR_BAR), **place)
        across, down = drawn.layout.xaxis, drawn.layout.yaxis
        figure.update_xaxes(tickvals=across.tickvals, ticktext=across.ticktext, title="tokens", **place)
        figure.update_yaxes(
            tickvals=down.tickvals, ticktext=down.ticktext, range=down.range, showgrid=False, **place
        )
    figure.update_yaxes(title="depth, %", col=1)
    title = f"{hover_text(block.title)}, {budget_title(budget, block.per)}"
    figure.update_layout(title=title, margin={"l": 60, "r": 20, "t": 84, "b": 50})
    return figure


_COLOR_BAR = {
    "title": {"text": "found", "side": "top"},
    "tickvals": [0, 0.5, 1],
    "ticktext": ["0 %", "50 %", "100 %"],
    "thickness": 12,
}


def _named(figure: Figure, title: str, height: int) -> Figure:
    """The same with a title above and a legend below."""
    legend = {"orientation": "h", "x": 0, "y": -0.3, "yanchor": "top"}
    figure.update_layout(title=hover_text(title), height=height, showlegend=True, legend=legend)
    figure.update_layout(margin={"l": 60, "r": 20, "t": 50, "b": 110})
    return figure
