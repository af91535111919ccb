"""What stayed in memory: the marked document and the heatmap of one method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import callbacks as do
from app import text
from app.views.events import LIGHT


@dataclass(frozen=True)
class Kept:
    """What a person reads about the rows that were kept."""

    empty: gr.HTML
    panel: gr.Column
    method: gr.Radio
    layer: gr.Dropdown
    document: gr.HTML
    heatmap: gr.Plot

    @property
    def places(self) -> list[Any]:
        """The placeholder, and what takes its place."""
        return [self.empty, self.panel]

    @property
    def shown(self) -> list[Any]:
        """Everything that a run fills."""
        return [*self.places, self.method, self.layer, self.document, self.heatmap]


def build_kept() -> Kept:
    """The components, empty."""
    gr.HTML(f'<h2 class="section">{text.MAP_TITLE}</h2>')
    empty = gr.HTML(f'<p class="blank">{text.MAP_EMPTY}</p>')
    with gr.Column(visible=False, elem_id="map") as panel:
        with gr.Row(elem_id="map-choice"):
            method = gr.Radio([], label=text.MAP_METHOD, elem_id="map-method", scale=3, min_width=240)
            layer = gr.Dropdown(
                [(text.ALL_LAYERS, -1)],
                value=-1,
                label=text.MAP_LAYER,
                elem_id="map-layer",
                scale=0,
                min_width=140,
            )
        document = gr.HTML(elem_id="map-document")
        gr.HTML(f'<h2 class="section">{text.HEATMAP_TITLE}</h2><p class="fine">{text.HEATMAP}</p>')
        heatmap = gr.Plot(show_label=False, container=False, elem_id="map-heatmap")
    return Kept(empty, panel, method, layer, document, heatmap)


def wire_kept(kept: Kept, run: gr.State) -> None:
    """Choosing a method or a layer draws the map again."""
    gr.on(
        [kept.method.input, kept.layer.input],
        do.show_map,
        [run, kept.method, kept.layer],
        [kept.document, kept.heatmap],
        **LIGHT,
    )
