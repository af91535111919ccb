"""The map of what one method kept of one prompt: its arrays, and every way to show them."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from judgeq.console import say
from judgeq.retention import explanation, figures, html
from judgeq.retention.arrays import KeptRows
from judgeq.retention.explanation import Explanation
from judgeq.retention.figures import Metric
from judgeq.retention.text import level_of, marked_text, sentences
from judgeq.retention.units import Granularity

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


class RetentionMap(KeptRows):
    __doc__ = KeptRows.__doc__

    def explain(self, start: int, end: int, layer: int | None = None, head: int | None = None) -> Explanation:
        """Why a span of the document is kept or evicted: how many heads keep it, its score's rank and margin.

        Args:
            start, end: characters, counted from the document's start; tokens that hold at least one of them count.
            layer, head: count in this layer, or with this KV head of each layer, only.

        Raises:
            InputError: no such span, layer or head.
        """
        return explanation.explain(self, start, end, layer, head)

    def to_html(
        self,
        layer: int | None = None,
        granularity: Granularity = "word",
        *,
        head: int | None = None,
        reading: bool = False,
    ) -> str:
        """The document, marked by how many heads keep each unit, as a self-contained HTML fragment without scripts.

        Args:
            layer, head: count in this layer, or with this KV head of each layer, only.
            granularity: what is marked as one; see `units`.
            reading: add the figures of every unit, for a page whose script shows them.
        """
        return html.map_html(self, granularity, layer, head, reading)

    def difference_html(
        self,
        other: KeptRows,
        layer: int | None = None,
        granularity: Granularity = "word",
        *,
        head: int | None = None,
        reading: bool = False,
    ) -> str:
        """The document, marked by which of two methods keeps each unit; arguments as in `to_html`.

        A unit counts as kept where at least as many heads keep it as keep an average token of the prompt.

        Raises:
            InputError: the other map is of another prompt or model.
        """
        return html.difference_html(self, other, granularity, layer, head, reading)

    def to_figure(self, metric: Metric = "kept") -> Figure:
        """A Plotly heatmap, layer x position, in at most 200 bins.

        Args:
            metric: `"kept"`, the share of the bin's rows that the layer's KV heads keep; or `"score"`, the bin's best
                score relative to the layer's mean, both averaged over heads.

        Raises:
            InputError: an unknown metric, or no scores.
        """
        return figures.heatmap(self, metric)

    def to_head_figure(self) -> Figure:
        """A Plotly heatmap, layer x KV head, of the rows that each head keeps."""
        return figures.head_heatmap(self)

    def show(self, layer: int | None = None) -> None:
        """Show the map: text and heatmap in a notebook, marked text in a terminal.

        Where the output has no styles, brackets mark what more than a quarter of the heads keep.
        """
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        if getattr(shell, "kernel", None) is not None:
            from IPython.display import HTML, display

            display(HTML(self.to_html(layer)))
            if find_spec("plotly"):
                display(figures.notebook_heatmap(self))
            return
        ansi = sys.stdout is not None and sys.stdout.isatty()
        spans, shares = self.units("word", layer)
        text = marked_text(self.document_text, spans, level_of(shares), ansi=ansi)
        key = [] if ansi else ["[Brackets]: kept by more than a quarter of the heads."]
        say("\n".join([*sentences(self, layer)[-2:], *key, "", text, ""]), sys.stdout)

    def _repr_html_(self) -> str:
        return self.to_html()
