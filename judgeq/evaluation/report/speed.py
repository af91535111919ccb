"""Files of `judgeq bench` as tables and figures: times, ratios and bytes, method by method.

Knows nothing of models. Every text in a file is untrusted; it is escaped where it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from judgeq.errors import InputError
from judgeq.evaluation.report.figures import frame
from judgeq.evaluation.report.tables import NOTHING, Cell, Table, flat
from judgeq.look.figures import hover_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

SPEED = "speed"
"""What such a file says as its `benchmark`."""
BARS = ("#3a7cc0", "#c9660a")
NOTE = (
    "Medians of rounds in which everyone takes a turn. Ratios are taken within a round. The roofline is what reading "
    "weights and rows from memory allows: (weights + full rows) / (weights + kept rows)."
)


@dataclass(frozen=True)
class SpeedRow:
    """One contender.

    Attributes:
        label: method and budget.
        figures: by name, as `evaluation.speed.rows_of` gives them; what was not measured is left out.
    """

    label: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class SpeedFile:
    """One file: its name, the model, what the run was asked to do, and a row for each contender."""

    name: str
    model: str
    facts: Mapping[str, Any]
    rows: tuple[SpeedRow, ...]

    @property
    def title(self) -> str:
        """A heading."""
        return f"Speed and memory: {self.model}"

    @property
    def command(self) -> str:
        """What repeats the run, in one line; empty where the file does not say."""
        settings = self.facts.get("settings")
        command = settings.get("command") if isinstance(settings, dict) else None
        return " ".join(command.split()) if isinstance(command, str) else ""


def is_speed(value: Any) -> bool:
    """Whether a JSON value comes from `judgeq bench`."""
    return isinstance(value, dict) and value.get("benchmark") == SPEED


def speed_from(value: Mapping[str, Any], name: str, where: str) -> SpeedFile:
    """The content of a file, checked.

    Raises:
        InputError: it is not what `judgeq bench --json FILE` writes; the message begins with `where`.
    """
    rows = value.get("rows")
    if not isinstance(value.get("model"), str) or not isinstance(rows, list) or not rows:
        raise InputError(
            f"{where} names no model or has no rows: give files that `judgeq bench --json` wrote"
        )
    facts = {key: value[key] for key in ("settings", "machine", "versions", "kvpress") if key in value}
    return SpeedFile(
        name, value["model"], facts, tuple(_row(row, at, where) for at, row in enumerate(rows, 1))
    )


def _row(row: Any, at: int, where: str) -> SpeedRow:
    label = row.get("label") if isinstance(row, dict) else None
    if not isinstance(label, str):
        raise InputError(f"{where}: row {at} has no label: give files that `judgeq bench --json` wrote")
    figures = {
        name: float(figure)
        for name, figure in row.items()
        if isinstance(figure, int | float) and not isinstance(figure, bool) and math.isfinite(figure)
    }
    for name in ("first_s", "token_s", "first_over_plain", "speedup"):
        if figures.get(name, 0) <= 0:
            raise InputError(
                f"{where}: row {at} has no positive number as {name}: give files that `judgeq bench --json` wrote"
            )
    return SpeedRow(label, figures)


_COLUMNS: dict[str, Callable[[Mapping[str, float]], str]] = {
    "First token": lambda row: f"{row['first_s']:.2f} s",
    "over transformers": lambda row: f"{row['first_over_plain'] - 1:+.1%}".replace("%", " %"),
    "A later token": lambda row: f"{1000 * row['token_s']:.1f} ms",
    "Speed-up": lambda row: f"{row['speedup']:.2f}",
    "Roofline": lambda row: f"{row['roofline']:.2f}",
    "Reached": lambda row: f"{row['of_roofline']:.0%}".replace("%", " %"),
    "Peak of rows": lambda row: _megabytes(row["peak_bytes"]),
    "over the bound": lambda row: f"{row['peak_over_bound']:.3f}",
    "Rows while decoding": lambda row: _megabytes(row["row_bytes"]),
    "Storage at the end": lambda row: _megabytes(row["kv_bytes"]),
    "GPU memory": lambda row: _megabytes(row["device_bytes"]),
}
"""How each figure is shown; a row that lacks it has none."""


def speed_table(file: SpeedFile) -> Table:
    """Times and bytes, a line for each contender."""

    def text(show: Callable[[Mapping[str, float]], str], row: SpeedRow) -> str:
        try:
            return show(row.figures)
        except KeyError:
            return NOTHING

    lines = {row.label: [text(show, row) for show in _COLUMNS.values()] for row in file.rows}
    measured = [at for at in range(len(_COLUMNS)) if any(line[at] != NOTHING for line in lines.values())]
    return Table(
        caption="The first token, later tokens, and bytes",
        corner="Method",
        columns=tuple(list(_COLUMNS)[at] for at in measured),
        lines=tuple((label, tuple(Cell(line[at]) for at in measured)) for label, line in lines.items()),
        note=NOTE,
    )


def speed_figure(file: SpeedFile) -> Figure:
    """How many times faster a later token is than with the full cache, beside what the roofline allows."""
    from plotly.graph_objects import Bar, Figure

    rows = [row for row in file.rows if "roofline" in row.figures]
    labels = [hover_text(row.label) for row in rows]
    figure = Figure()
    for name, title, color in (("speedup", "measured", BARS[0]), ("roofline", "roofline", BARS[1])):
        figure.add_trace(
            Bar(
                y=labels,
                x=[round(row.figures[name], 3) for row in rows],
                orientation="h",
                name=title,
                marker={"color": color},
                hovertemplate=f"%{{y}}, {title}: %{{x:.2f}} times<extra></extra>",
            )
        )
    frame(figure, height=110 + 44 * len(rows))
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    figure.update_layout(barmode="group", showlegend=True, legend=legend)
    figure.update_layout(margin={"l": 10, "t": 34})
    figure.update_xaxes(title="times as fast as the full cache", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", automargin=True, showgrid=False)
    return figure


def setup_table(file: SpeedFile) -> Table:
    """What was measured with what."""
    cells = tuple((name, (Cell(value),)) for name, value in flat(file.facts))
    return Table(f"How {file.name} was measured", "setting", ("value",), cells, prose=True)


def _megabytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"
