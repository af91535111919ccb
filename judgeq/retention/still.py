"""The layer x position heatmap as a small SVG without scripts, for where Plotly's does not run.

Every text that comes in is untrusted.
"""

from __future__ import annotations

import base64
import html
import io
import re
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from judgeq.retention.rendering import visible

if TYPE_CHECKING:
    from judgeq.retention import RetentionMap

BINS = 200
HINT = 60
"""Characters of the prompt that a column of the heatmap tells."""


def heat_figure(found: RetentionMap, label: str) -> str:
    """The heatmap with its axes and scale, as HTML that needs no style sheet."""
    height = min(420, 140 + 8 * found.layers)
    line = "display:flex;justify-content:space-between;align-items:center;gap:.6em;margin:.2em 0"
    return (
        '<figure style="max-width:60em;margin:1em 0;font:13px/1.4 sans-serif;color:#767676">'
        f"<figcaption>{html.escape(label)}</figcaption>"
        f'<div style="{line}"><span>layer 0 at the top, layer {found.layers - 1} at the bottom</span></div>'
        f"{heat_svg(found, label, f'display:block;width:100%;height:{height}px;image-rendering:pixelated')}"
        f'<div style="{line}"><span>0</span><span>position in the prompt, in tokens</span>'
        f"<span>{found.tokens:,}</span></div>"
        f'<div style="{line}"><span>0 %</span>'
        f'<img src="{ramp_png()}" alt="" style="flex:1;width:0;min-width:0;height:12px">'
        "<span>100 % of the layer’s heads keep it</span></div></figure>"
    )


def colours(shares: np.ndarray) -> np.ndarray:
    """(..., 3) uint8 for shares in [0, 1]: the scale of the retention map's own heatmap, its low end spread."""
    return _scale()[np.rint(np.sqrt(np.clip(shares, 0, 1)) * 255).astype(int)]


def heat_svg(found: RetentionMap, label: str, style: str = "") -> str:
    """Layers from top to bottom, the prompt from left to right; a column's text shows under the pointer.

    Stretches to whatever size it is given: words around it belong to the page.

    Args:
        style: of the element, where no style sheet says what `heat` looks like.
    """
    bins = min(BINS, found.tokens)
    edges = found.bin_edges(bins)
    picture = base64.b64encode(png(colours(found.layer_profile(bins)))).decode()
    inside = found.document_tokens
    borders = "".join(
        f'<line x1="{x:.2f}" x2="{x:.2f}" y1="0" y2="{found.layers}" vector-effect="non-scaling-stroke" '
        f'stroke="{colour}" stroke-width="{width}"{dash}/>'
        for x in (inside.start * bins / found.tokens, inside.stop * bins / found.tokens)
        for colour, width, dash in (("#fff", "3.5", ""), ("#111", "1.5", ' stroke-dasharray="1.5 3"'))
    )
    columns = "".join(
        f'<rect x="{place}" y="0" width="1" height="{found.layers}"><title>{_told(found, first, last)}</title></rect>'
        for place, (first, last) in enumerate(pairwise(edges.tolist()))
    )
    styled = f' style="{style}"' if style else ""
    return (
        f'<svg class="heat" viewBox="0 0 {bins} {found.layers}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label)}"{styled}><image width="{bins}" height="{found.layers}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>{borders}'
        f'<g fill="transparent">{columns}</g></svg>'
    )


def ramp_png() -> str:
    """The scale from 0 to all heads, as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(colours(np.linspace(0, 1, 128))[None])).decode()


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 as a PNG file."""
    from PIL import Image

    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", optimize=True)
    return target.getvalue()


@cache
def _scale() -> np.ndarray:
    """(256, 3) uint8."""
    from plotly.colors import sample_colorscale

    found = sample_colorscale("Cividis", np.linspace(0, 1, 256).tolist())
    return np.array(
        [[round(float(part)) for part in re.findall(r"[\d.]+", colour)[:3]] for colour in found]
    ).astype(np.uint8)


def _told(found: RetentionMap, first: int, last: int) -> str:
    spans = found.offsets[first:last]
    text = found.text[min(start for start, _ in spans) : max(end for _, end in spans)]
    line = " ".join(visible(text).split())
    place = f"token {first:,}" if last - first == 1 else f"tokens {first:,} to {last - 1:,}"
    return html.escape(f"{place}: {line[:HINT]}{'…' if len(line) > HINT else ''}", quote=False)
