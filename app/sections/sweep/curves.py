"""The results of a sweep: as curves, as a table, and in a sentence. Every text is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from app import text
from app.sections.ask.cards import begun_status, busy_status, error_status, percent, ready_status
from app.server.sweep_run import SweepRun
from judgeq.evaluation.report.styles import styles_of
from judgeq.look.figures import over_rows
from judgeq.look.pages import environment
from judgeq.look.palette import GREY
from judgeq.methods import title_of
from judgeq.sweeping import SweepPoint

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

ANSWER_SHOWN = 280
TABLE = """
<p class="sweep-answer">{{ text.SWEEP_ANSWER }} <q>{{ answer }}</q></p>
<div class="sweep-table" tabindex="0" role="region" aria-label="{{ text.SWEEP_TABLE }}"><table>
<caption>{{ text.SWEEP_TABLE }}</caption><thead><tr><th scope="col">{{ text.SWEEP_X }}</th>
{% for name in columns %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for size, rows, values in lines %}<tr><th scope="row">{{ size }} <small>({{ rows }})</small></th>
{%- for value in values %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</tbody></table></div>
"""


def status_of(run: SweepRun) -> str:
    """The line that says how far a sweep is, and in the end what it has found."""
    if run.phase == "reading" and run.layers[0] == run.layers[1] > 0:
        return busy_status(text.SWEEP_REFERENCE, 1.0)
    if said := begun_status(run):
        return said
    if run.phase == "writing":
        done, count = len(run.points), run.expected_points
        return busy_status(text.SWEEP_MEASURING.format(done=done, count=count), done / count)
    if run.phase == "failed":
        return error_status(text.SWEEP_FAILED)
    if run.phase == "stopped":
        return ready_status(text.SWEEP_STOPPED.format(done=len(run.points), count=run.expected_points))
    return ready_status(verdict(run.points))


def verdict(points: Sequence[SweepPoint]) -> str:
    """With how little each method still writes the whole answer of the full cache."""
    found = []
    for method, own in by_method(points).items():
        enough = None
        for point in sorted(own, key=lambda each: each.rows, reverse=True):
            if point.agreement < 1:
                break
            enough = point
        title = title_of(method)
        if enough is None:
            found.append(text.SWEEP_NEVER.format(method=title))
        else:
            found.append(text.SWEEP_ENOUGH.format(method=title, share=size_of(enough)))
    return f"{text.SWEEP_VERDICT} {'; '.join(found)}."


def size_of(point: SweepPoint) -> str:
    """A size as requested: `2 %`, or a number of rows as a share."""
    return f"{100 * (point.budget if isinstance(point.budget, float) else point.share):.3g} %"


def by_method(points: Sequence[SweepPoint]) -> dict[str, list[SweepPoint]]:
    """The points of each method, in the order in which methods come first."""
    found: dict[str, list[SweepPoint]] = {}
    for point in points:
        found.setdefault(point.method, []).append(point)
    return found


def figure(points: Sequence[SweepPoint]) -> Figure:
    """Agreement over the share that is kept; below it the span's survival, where one was watched."""
    from plotly.graph_objects import Scatter
    from plotly.subplots import make_subplots

    watched = any(point.survival is not None for point in points)
    titles = (text.SWEEP_AGREEMENT, *((text.SWEEP_SURVIVAL,) if watched else ()))
    drawn = make_subplots(rows=len(titles), cols=1, shared_xaxes=True, vertical_spacing=0.16, subplot_titles=titles)
    looks = styles_of(point.method for point in points)
    for method, own in by_method(points).items():
        look = looks[method]
        curves = [[point.agreement for point in own]]
        if watched:
            curves.append([point.survival or 0.0 for point in own])
        for row, values in enumerate(curves, start=1):
            drawn.add_trace(
                Scatter(
                    x=[100 * point.share for point in own],
                    y=[100 * value for value in values],
                    name=html.escape(title_of(method)),
                    legendgroup=method,
                    showlegend=row == 1,
                    mode="lines+markers",
                    cliponaxis=False,
                    line={"color": look.color, "dash": look.dash, "width": 2.5},
                    marker={"symbol": look.symbol, "size": 9},
                    customdata=[[point.rows] for point in own],
                    hovertemplate=text.SWEEP_HOVER,
                ),
                row=row,
                col=1,
            )
    over_rows(drawn, min(1, *(100 * point.share for point in points)), 560 if watched else 350)
    drawn.update_annotations(font={"size": 14, "color": GREY}, x=0, xanchor="left")
    drawn.update_xaxes(showticklabels=True)
    return drawn.update_xaxes(title={"text": text.SWEEP_AXIS, "font": {"size": 13}}, row=len(titles), col=1)


def table(points: Sequence[SweepPoint]) -> str:
    """The same as a table, with the answer that everything is measured along."""
    if not points:
        return ""
    methods = by_method(points)
    watched = any(point.survival is not None for point in points)
    heads = [title_of(method) for method in methods]
    columns = [text.SWEEP_AGREES.format(method=head) for head in heads]
    columns += [text.SWEEP_SPAN_OF.format(method=head) for head in heads if watched]
    cells = {(point.method, point.budget): point for point in points}
    lines = []
    for budget, any_point in {point.budget: point for point in points}.items():
        own = [cells.get((method, budget)) for method in methods]
        values = [None if point is None else point.agreement for point in own]
        values += [None if point is None else point.survival for point in own] if watched else []
        shown = [text.PENDING if value is None else percent(value) for value in values]
        lines.append((size_of(any_point), f"{any_point.rows:,}", shown))
    answer = points[0].answer
    answer = answer[:ANSWER_SHOWN] + " …" * (len(answer) > ANSWER_SHOWN)
    return environment().from_string(TABLE).render(text=text, answer=answer, columns=columns, lines=lines)
