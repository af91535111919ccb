"""What was kept in memory: the marked document, what survived of a span, and the figures of one method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app import text
from app.sections.events import QUEUED
from app.sections.folding import folded
from app.sections.kept import callbacks as do

SCRIPT, KEYS = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("kept.js", "heatmap.js"))
LAST = {"trigger_mode": "always_last"}
"""Of choices in quick succession the last one is what is shown."""
SHOW_SPAN = """
watch("value", () => {
  const found = element.querySelector("[data-start]");
  if (found) document.querySelector("#map")?.showSpan?.(+found.dataset.start, +found.dataset.end);
});
"""


class Kept:
    """The components that show the kept rows."""

    def __init__(self) -> None:
        """Builds them, empty."""
        gr.HTML(f'<h2 class="section">{text.MAP_TITLE}</h2>')
        self.empty = gr.HTML(f'<p class="blank">{text.MAP_EMPTY}</p>')
        with gr.Column(visible=False, elem_id="map") as self.panel:
            self.method = gr.Radio([], label=text.MAP_METHOD, elem_id="map-method")
            with gr.Row(elem_id="map-choice"):
                self.other = _choice([(text.NO_OTHER, "")], "", text.MAP_OTHER, "map-other")
                units = [(label, name) for name, label in text.GRANULARITIES.items()]
                self.granularity = _choice(units, "word", text.MAP_GRANULARITY, "map-granularity")
                self.layer = _choice([(text.ALL_LAYERS, -1)], -1, text.MAP_LAYER, "map-layer")
                self.head = _choice([(text.ALL_HEADS, -1)], -1, text.MAP_HEAD, "map-head")
                self.query_head = _choice(
                    [(text.ALL_HEADS, -1)], -1, text.MAP_QUERY_HEAD, "map-query-head", visible=False
                )
            self.document = gr.HTML(elem_id="map-document", js_on_load=SCRIPT)
            gr.HTML(f'<h2 class="section">{text.SURVIVAL_TITLE}</h2><p class="fine">{text.SURVIVAL}</p>')
            with gr.Row(elem_id="span-row"):
                self.span = gr.Textbox(
                    label=text.SPAN, placeholder=text.SPAN_PLACEHOLDER, max_lines=3, elem_id="span", scale=1
                )
                self.find = gr.Button(text.FIND, elem_id="span-find", scale=0, min_width=90)
                self.stay = gr.Button(text.SPAN_STAY, elem_id="span-stay", scale=0, min_width=110)
                self.go = gr.Button(text.SPAN_GO, elem_id="span-go", scale=0, min_width=110)
            self.survival = gr.HTML(elem_id="survival", js_on_load=SHOW_SPAN)
            self.by_layer = gr.Plot(show_label=False, container=False, visible=False, elem_id="survival-layers")
            with folded(text.HEATMAP_TITLE, text.HEATMAP, text.HEATMAP_FOLD, "layers"):
                self.metric = gr.Radio(
                    [(label, name) for name, label in text.METRICS.items()],
                    value="kept",
                    label=text.MAP_METRIC,
                    elem_id="map-metric",
                )
                self.heatmap = gr.Plot(show_label=False, container=False, elem_id="map-heatmap")
                keys = f'<p class="fine" aria-live="polite" data-label="{text.HEATMAP_KEYS}"></p>'
                gr.HTML(keys, js_on_load=KEYS, elem_id="map-region")
            with gr.Column(visible=False, elem_id="map-heads-part") as self.heads_part:
                gr.HTML(f'<h2 class="section">{text.HEADS_TITLE}</h2><p class="fine">{text.HEADS}</p>')
                self.heads = gr.Plot(show_label=False, container=False, elem_id="map-heads")

    @property
    def places(self) -> list[Any]:
        """The placeholder, and what takes its place."""
        return [self.empty, self.panel]

    @property
    def marked(self) -> list[Any]:
        """What depends on the choices above the document."""
        return [self.other, self.document]

    @property
    def drawn(self) -> list[Any]:
        """What depends on the method and on what is to be drawn."""
        return [self.metric, self.heatmap, self.heads_part, self.heads]

    @property
    def survival_fields(self) -> list[Any]:
        """What depends on a span."""
        return [self.span, self.survival, self.by_layer]

    @property
    def shown(self) -> list[Any]:
        """Everything that a run fills."""
        first = [self.method, self.layer, self.document, self.heatmap]
        rest = [self.granularity, self.head, self.other, self.metric, self.heads_part, self.heads]
        return [*self.places, *first, *rest, *self.survival_fields]


def wire_kept(kept: Kept, run: gr.State) -> gr.events.Dependency:
    """A choice draws the map again; a selected or typed span shows what survived of it.

    Returns:
        The event after which the document shows what was chosen.
    """
    choices = [kept.method, kept.other, kept.granularity, kept.layer, kept.head]
    drawn = gr.on(
        [choice.input for choice in choices], do.show_document, [run, *choices], kept.marked, **QUEUED, **LAST
    )
    figures = [kept.method.input, kept.metric.input]
    gr.on(figures, do.show_figures, [run, kept.method, kept.metric], kept.drawn, **QUEUED, **LAST)
    kept.document.select(do.selected, run, kept.survival_fields, **QUEUED, **LAST)
    gr.on([kept.span.submit, kept.find.click], do.search, [run, kept.span], kept.survival_fields, **QUEUED)
    return drawn


def _choice(choices: list[tuple[str, Any]], value: Any, label: str, name: str, visible: bool = True) -> gr.Dropdown:
    return gr.Dropdown(choices, value=value, label=label, elem_id=name, scale=1, min_width=130, visible=visible)
