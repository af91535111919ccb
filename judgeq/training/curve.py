"""The curve of a training run: loss and held-out hit rate by step, as a page (HTML) and a picture (PNG)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from judgeq.look.figures import series_style, styled
from judgeq.look.palette import GREY, SERIES

SMOOTHING = 0.95  # of the running mean that is drawn over the single steps
CURVES = ("curve.html", "curve.png")
TITLE = "Training: loss and held-out hit rate"
Rates = dict[str, list[tuple[int, float]]]
"""(step, figure) at the steps where it was measured, by the figure's name."""


def write_curve(history: Sequence[dict[str, float]], folder: Path) -> None:
    """Write `curve.html`, which works offline, and `curve.png` into `folder`.

    Args:
        history: one entry a step with its `loss` and, at some steps, figures named `hit_rate_…`.
    """
    page, picture = (folder / name for name in CURVES)
    curve_figure(history).write_html(page, include_plotlyjs=True)
    _write_png(*_curves(history), picture)


def curve_figure(history: Sequence[dict[str, float]]) -> go.Figure:
    """The curve in Plotly, as `curve.html` and a notebook show it; `history` as in `write_curve`."""
    steps, losses, rates = _curves(history)
    figure = styled(make_subplots(specs=[[{"secondary_y": True}]]), title=TITLE, margin={"t": 80, "r": 60})
    figure.add_scatter(x=steps, y=losses, name="loss", line=dict(color=GREY, width=1), opacity=0.35)
    figure.add_scatter(x=steps, y=smoothed(losses), name="loss, smoothed", line=dict(color=GREY, width=3))
    for at, (name, points) in enumerate(rates.items()):
        x, y = zip(*points, strict=True)
        marks = go.Scatter(x=x, y=y, name=_label(name), mode="lines+markers", **series_style(at))
        figure.add_trace(marks, secondary_y=True)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="loss", type="log", nticks=6, automargin=True, secondary_y=False)
    return figure.update_yaxes(title_text="hit rate", secondary_y=True, showgrid=False)


def smoothed(losses: Sequence[float]) -> list[float]:
    """Running mean that forgets old steps, corrected for its start."""
    mean, weight, result = 0.0, 0.0, []
    for loss in losses:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        result.append(mean / weight)
    return result


def _label(name: str) -> str:
    return f"hit rate, {name.rsplit('_', 1)[-1]} rows"


def _curves(history: Sequence[dict[str, float]]) -> tuple[list[int], list[float], Rates]:
    """Steps, their losses, and the measured rates by name."""
    steps = list(range(1, len(history) + 1))
    rates = {
        name: [(step, entry[name]) for step, entry in zip(steps, history, strict=True) if name in entry]
        for name in dict.fromkeys(name for entry in history for name in entry if name != "loss")
    }
    return steps, [entry["loss"] for entry in history], rates


def _write_png(steps: list[int], losses: list[float], rates: Rates, path: Path) -> None:
    from matplotlib.figure import Figure  # not pyplot: no window system, no state

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    left = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    left.plot(steps, losses, color=GREY, alpha=0.35, linewidth=0.8)
    left.plot(steps, smoothed(losses), color=GREY, linewidth=2, label="loss, smoothed")
    right = left.twinx()
    right.set_ylabel("hit rate")
    for color, (name, points) in zip(cycle(SERIES), rates.items(), strict=False):
        x, y = zip(*points, strict=True)
        right.plot(x, y, color=color, marker="o", label=_label(name))
    handles = [handle for axes in (left, right) for handle in axes.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    left.set_title(TITLE)
    figure.savefig(path, dpi=150)
