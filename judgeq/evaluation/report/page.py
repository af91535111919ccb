"""The report as one page that opens without a network: Plotly inlined once, everything else plain HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from judgeq.evaluation.report.blocks import Block
from judgeq.evaluation.report.contents import (
    ABOUT,
    TITLE,
    WORDS,
    Part,
    compared_tables,
    has_needles,
    parts_of,
    score_tables,
    task_tables,
)
from judgeq.evaluation.report.figures import (
    SCALE,
    budget_curves,
    layer_curves,
    moved_points,
    needle_heatmap,
)
from judgeq.evaluation.report.look import CSS, SCRIPT
from judgeq.evaluation.report.paper import MOVED, own_tables, published_tables
from judgeq.evaluation.report.pieces import (
    Figures,
    bullets,
    chosen,
    escaped,
    legend,
    paragraph,
    ramp,
    table,
)
from judgeq.evaluation.report.read import ResultFile
from judgeq.evaluation.report.speed import SpeedFile, setup_table, speed_figure, speed_table
from judgeq.evaluation.report.styles import styles_of
from judgeq.evaluation.report.tables import (
    facts_table,
    layer_rates,
    layer_table,
    moved_table,
    needle_table,
)
from judgeq.evaluation.report.words import budget_title, length_title, method_title
from judgeq.methods import Look

NEEDLES = "Across: tokens of the prompt. Down: depth of the needle, in percent of the document before it."
BESIDE = (
    "What says “published by others” is the paper’s, for another and much larger model; the rest was measured here. "
    "Scores of different models do not compare; the share of the gap to each model’s own full cache does."
)


def to_html(files: Sequence[ResultFile], title: str = TITLE, speed: Sequence[SpeedFile] = ()) -> str:
    """The report as a page.

    Args:
        files: of `evaluate`.
        title: heading of the page.
        speed: files of `bench`.
    """
    from plotly.offline import get_plotlyjs

    parts, figures = parts_of(files), Figures()
    styles = styles_of(row.method for file in files for row in file.rows)
    body = "".join(_part(part, number, styles, figures) for number, part in enumerate(parts))
    body += "".join(_speed(file, number, figures) for number, file in enumerate(speed))
    words = "".join(f"<dt>{escaped(word)}</dt><dd>{escaped(meaning)}</dd>" for word, meaning in WORDS)
    return (
        '<!doctype html><html lang="en" class="no-js"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{escaped(title)}</title><link rel="icon" href="data:,"><style>{CSS}</style></head><body>'
        f'<header class="top"><div><h1>{escaped(title)}</h1>{paragraph(ABOUT, "soft")}{_contents(parts, speed)}'
        "</div></header>"
        f'<main>{body}<section id="words"><h2>Words</h2><dl>{words}</dl></section></main>'
        f"{figures.data}<script>{get_plotlyjs()}</script><script>{SCRIPT}</script></body></html>\n"
    )


def _contents(parts: Sequence[Part], speed: Sequence[SpeedFile]) -> str:
    links = []
    for number, part in enumerate(parts):
        if len(parts) > 1:
            links.append((f"model-{number}", part.model))
        links += [(f"block-{number}-{at}", block.title) for at, block in enumerate(part.blocks)]
        links += [(f"moved-{number}", "Question moved")] if part.moved else []
        links += [(f"paper-{number}", "Beside the paper")] if part.published else []
        links.append((f"facts-{number}", "How it was measured"))
    links += [(f"speed-{number}", file.title) for number, file in enumerate(speed)]
    items = "".join(f'<li><a href="#{target}">{escaped(text)}</a></li>' for target, text in links)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _part(part: Part, number: int, styles: Mapping[str, Look], figures: Figures) -> str:
    summaries = "".join(
        f'<div class="summary">{paragraph(summary.lead)}{bullets(summary.budgets)}</div>'
        for summary in part.summaries
    )
    care = f'<div class="care"><h3>Read with care</h3>{bullets(part.warnings)}</div>' if part.warnings else ""
    blocks = "".join(
        f'<section id="block-{number}-{at}"><h3>{escaped(block.title)}</h3>'
        f"{_block(block, f'{number}-{at}', styles, figures)}</section>"
        for at, block in enumerate(part.blocks)
    )
    return (
        f'<section id="model-{number}"><h2>{escaped(part.model)}</h2><div class="summaries">{summaries}</div>{care}'
        f"{blocks}{_moved(part, number, styles, figures)}{_paper(part, number)}{_facts(part, number)}</section>"
    )


def _speed(file: SpeedFile, number: int, figures: Figures) -> str:
    drawn = figures.place(speed_figure(file), "Speed-up of later tokens against the full cache")
    return (
        f'<section id="speed-{number}"><h2>{escaped(file.title)}</h2>{drawn}{table(speed_table(file))}'
        f"<details><summary>{escaped(file.name)}</summary>{_command(file)}{table(setup_table(file))}</details></section>"
    )


def _block(block: Block, name: str, styles: Mapping[str, Look], figures: Figures) -> str:
    known = legend([method for method in (block.full, *block.methods) if method is not None], styles)
    scopes = [length_title(length) for length in block.scopes]
    rated = "Hit rate" if block.is_hit_rate else "Average score"
    curves = "".join(
        figures.place(
            budget_curves(block, length, styles),
            f"{rated} by budget, {scope}" if block.lengths else f"{rated} by budget",
        )
        for length, scope in zip(block.scopes, scopes, strict=True)
    )
    panels = {str(at): table(found) for at, found in enumerate(score_tables(block))}
    compared = "".join(map(table, compared_tables(block)))
    return (
        f'{known}<div class="grid">{curves}</div>{chosen(f"scores-{name}", [("Length", scopes)], panels)}'
        f'<div class="grid wide">{compared}</div>'
        f"{_layers(block, name, styles, figures)}{_needles(block, name, figures)}{_tasks(block, name)}"
    )


def _layers(block: Block, name: str, styles: Mapping[str, Look], figures: Figures) -> str:
    budgets = [budget for budget in block.budgets if layer_rates(block, budget)]
    if not budgets:
        return ""
    titles = [budget_title(budget, block.per) for budget in budgets]
    curves = "".join(
        figures.place(layer_curves(block, budget, styles), f"Hit rate by layer, {title}")
        for budget, title in zip(budgets, titles, strict=True)
    )
    panels = {str(at): table(layer_table(block, budget)) for at, budget in enumerate(budgets)}
    tables = chosen(f"layers-{name}", [("Budget", titles)], panels)
    return f'<div class="grid">{curves}</div><details><summary>Every layer as a table</summary>{tables}</details>'


def _needles(block: Block, name: str, figures: Figures) -> str:
    if not has_needles(block):
        return ""
    from plotly.colors import get_colorscale

    rows = [] if block.full is None else [(block.full, [(1.0, "at every budget")])]
    rows += [
        (method, [(budget, budget_title(budget, block.per)) for budget in block.budgets])
        for method in block.methods
    ]
    drawn = "".join(
        f'<div class="row" style="--columns:{len(block.budgets)}"><h4>{escaped(method_title(method))}</h4>'
        + "".join(
            figures.place(needle_heatmap(block, method, budget), title, small=True) for budget, title in cells
        )
        + "</div>"
        for method, cells in rows
    )
    titles = [budget_title(budget, block.per) for budget in block.budgets]
    panels = {str(at): table(needle_table(block, budget)) for at, budget in enumerate(block.budgets)}
    tables = chosen(f"needles-{name}", [("Budget", titles)], panels)
    colors = ramp([color for _, color in get_colorscale(SCALE)])
    return (
        f'<div class="needles">{paragraph(NEEDLES, "note")}{colors}{drawn}</div>'
        f"<details><summary>The heatmaps as tables</summary>{tables}</details>"
    )


def _tasks(block: Block, name: str) -> str:
    tables = task_tables(block)
    if not tables:
        return ""
    lengths, budgets = block.table_lengths, block.budgets
    panels = {
        f"{lengths.index(length)} {budgets.index(budget)}": table(found)
        for (length, budget), found in tables.items()
    }
    questions = [
        ("Length", [length_title(length) for length in lengths]),
        ("Budget", [budget_title(budget, block.per) for budget in budgets]),
    ]
    return f"<h4>Task by task</h4>{chosen(f'tasks-{name}', questions, panels)}"


def _moved(part: Part, number: int, styles: Mapping[str, Look], figures: Figures) -> str:
    if not part.moved:
        return ""
    drawn = "".join(
        legend(dict.fromkeys(method for method, _ in each.moves), styles)
        + figures.place(moved_points(each.moves, each.per, styles), each.title)
        + table(moved_table(each.title, each.moves, each.per))
        for each in part.moved
    )
    return (
        f'<section id="moved-{number}"><h3>The question moved to the front</h3>{drawn}{paragraph(MOVED, "note")}'
        "</section>"
    )


def _paper(part: Part, number: int) -> str:
    if not part.published:
        return ""
    drawn = "".join(
        f'<div class="grid wide"><div>{"".join(map(table, published_tables(published)))}</div><div>'
        f"{''.join(table(found) for block in blocks for found in own_tables(block))}</div></div>"
        for published, blocks in part.published
    )
    return f'<section id="paper-{number}"><h3>Beside the paper</h3>{paragraph(BESIDE)}{drawn}</section>'


def _facts(part: Part, number: int) -> str:
    files = "".join(
        f"<details><summary>{escaped(file.name)}</summary>{_command(file)}{table(facts_table(file))}</details>"
        for file in part.files
    )
    return f'<section id="facts-{number}"><h3>How it was measured</h3>{files}</section>'


def _command(file: ResultFile | SpeedFile) -> str:
    return f"<pre><code>{escaped(file.command)}</code></pre>" if file.command else ""
