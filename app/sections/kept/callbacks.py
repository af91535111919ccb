"""What the page shows of the kept rows: the marked document, its figures, and what survived of a span."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
import numpy as np

from app import text
from app.sections.ask.cards import percent
from app.server.run import Run
from app.style.toasts import errors_shown
from judgeq.config import check_text
from judgeq.errors import InputError
from judgeq.look.pages import environment
from judgeq.methods import title_of
from judgeq.retention import RetentionMap
from judgeq.retention.figures import Metric, layer_lines
from judgeq.retention.text import shown_positions

FIELDS = 15
"""How many components a run fills: `Kept.shown`."""
LONGEST_SPAN = 20_000
"""Characters that can be searched for at once."""
SURVIVAL = """
<table class="survival"{% if place %} data-start="{{ place[0] }}" data-end="{{ place[1] }}"{% endif %}>
<caption>{{ caption }}</caption><tbody>
{% for name, width, share in lines %}
<tr><th scope="row">{{ name }}</th><td class="track"><i style="width:{{ width }}"></i></td><td>{{ share }}</td></tr>
{% endfor %}
</tbody></table>
"""


def show_document(run: Run | None, method: str, other: str, granularity: str, layer: int, head: int) -> tuple[Any, Any]:
    """The marked document of one method, or of two laid over one another; nothing changes where there is no map.

    Args:
        other: the second method, "" = none.
        layer, head: -1 = all.

    Returns:
        The choice of the second method, and the document.

    Raises:
        gr.Error: the map was evicted to make room for others.
    """
    found = _map_of(run, method)
    if run is None or found is None:
        return gr.skip(), gr.skip()
    second = run.retention.get(other) if other != method else None
    look: dict[str, Any] = {
        "layer": layer if type(layer) is int and layer in range(found.layers) else None,
        "head": head if type(head) is int and head in range(found.kv_heads) else None,
        "granularity": granularity if granularity in text.GRANULARITIES else "word",
        "reading": True,
    }
    return (
        gr.update(
            choices=[(text.NO_OTHER, ""), *_named(name for name in run.retention if name != method)],
            value=other if second is not None else "",
        ),
        found.to_html(**look) if second is None else found.difference_html(second, **look),
    )


def show_figures(run: Run | None, method: str, metric: str) -> tuple[Any, ...]:
    """What can be drawn of one method, the heatmap, and the heads' part with its figure; nothing without a map.

    Raises:
        gr.Error: the map was evicted to make room for others.
    """
    found = _map_of(run, method)
    if found is None:
        return (gr.skip(),) * 4
    scored = found.scores is not None
    shown: Metric = "score" if metric == "score" and scored else "kept"
    ragged = len(np.unique(found.kept_rows)) > 1
    return (
        gr.update(choices=_metrics(scored), value=shown),
        found.to_figure(shown),
        gr.update(visible=ragged),
        found.to_head_figure() if ragged else None,
    )


def map_updates(run: Run, news: bool) -> tuple[Any, ...]:
    """Everything that a run fills, in the order of `Kept.shown`; nothing changes without news."""
    maps = run.retention
    if not news or not maps:
        return (gr.skip(),) * FIELDS
    method = "judgeq" if "judgeq" in maps else next(reversed(maps))
    found = maps[method]
    other, document = show_document(run, method, "", "word", -1, -1)
    metric, heatmap, heads_part, heads = show_figures(run, method, "kept")
    return (
        gr.update(visible=False),
        gr.update(visible=True),
        gr.update(choices=_named(maps), value=method),
        gr.update(choices=numbered(text.ALL_LAYERS, text.LAYER, found.layers), value=-1),
        document,
        heatmap,
        gr.update(value="word"),
        gr.update(choices=numbered(text.ALL_HEADS, text.HEAD, found.kv_heads), value=-1),
        other,
        metric,
        heads_part,
        heads,
        "",
        "",
        gr.update(visible=False, value=None),
    )


@errors_shown()
def selected(run: Run | None, event: gr.EventData) -> tuple[Any, Any, Any]:
    """What survived of the words that are selected in the marked document.

    Returns:
        The words, what survived of them, and its figure.

    Raises:
        gr.Error: the selection is invalid.
    """
    found = _any_map(run)
    data = event._data if isinstance(event._data, dict) else {}
    first, last = (_whole(data.get(name)) for name in ("start", "end"))
    positions = shown_positions(found.document_text)
    start = int(np.searchsorted(positions, first, side="right")) - 1
    end = int(np.searchsorted(positions, last, side="left"))
    return _survival(run, found, start, end, show=False)


@errors_shown()
def search(run: Run | None, words: str) -> tuple[Any, Any, Any]:
    """What survived of words that are typed; see `selected`."""
    found = _any_map(run)
    return _survival(run, found, *find(found.document_text, words), show=True)


def find(document: str, words: str | None) -> tuple[int, int]:
    """The first occurrence of the words in the document, as written or, failing that, ignoring case.

    Raises:
        InputError: nowhere, or there is nothing to look for.
    """
    pieces = check_text("text", words or "").split()
    if not pieces or len(words or "") > LONGEST_SPAN:
        raise InputError(text.NO_SPAN)
    pattern = r"\s+".join(re.escape(piece) for piece in pieces)
    match = re.search(pattern, document) or re.search(pattern, document, re.IGNORECASE)
    if match is None:
        raise InputError(text.NOT_THERE.format(words=_short(" ".join(pieces))))
    return match.span()


def _survival(run: Run | None, found: RetentionMap, start: int, end: int, show: bool) -> tuple[Any, Any, Any]:
    document = found.document_text
    start, end = max(start, 0), min(end, len(document))
    piece = document[start:end]
    end -= len(piece) - len(piece.rstrip())
    start += len(piece) - len(piece.lstrip())
    if start >= end:
        raise InputError(text.NO_SPAN)
    maps = run.retention if run else {}
    by_layer = {title_of(name): each.survival(start, end) for name, each in maps.items()}
    tokens = len(found.tokens_at(start, end))
    caption = text.SURVIVAL_OF.format(
        words=_short(document[start:end]),
        tokens=text.TOKENS.format(tokens=tokens) if tokens > 1 else text.TOKEN,
    )
    place = shown_positions(document)[[start, end]].tolist() if show else None
    shares = [(name, float(values.mean())) for name, values in by_layer.items()]
    lines = [(name, f"{100 * share:.1f}%", percent(share)) for name, share in shares]
    table = environment().from_string(SURVIVAL).render(caption=caption, place=place, lines=lines)
    return document[start:end], table, gr.update(value=layer_lines(by_layer), visible=True)


@errors_shown()
def _map_of(run: Run | None, method: str) -> RetentionMap | None:
    return run.look().retention.get(method) if run else None


def _any_map(run: Run | None) -> RetentionMap:
    if run is None or not run.look().retention:
        raise InputError(text.NO_MAP)
    return next(iter(run.retention.values()))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31:
        raise InputError(text.NO_SPAN)
    return value


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= 80 else f"{line[:50]} … {line[-25:]}"


def _named(methods: Any) -> list[tuple[str, str]]:
    return [(title_of(name), name) for name in methods]


def numbered(every: str, one: str, count: int) -> list[tuple[str, int]]:
    """Choices of a picker: all of them, -1, or one."""
    return [(every, -1), *((one.format(number=number), number) for number in range(count))]


def _metrics(scored: bool) -> list[tuple[str, str]]:
    return [(label, name) for name, label in text.METRICS.items() if scored or name == "kept"]
