"""Marked text out of strings and levels: safe HTML for pages, plain text for terminals.

Every text that comes in is untrusted. Knows nothing of models or methods.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LEVELS = ("no head", "few heads", "some heads", "many heads", "most heads", "all heads")
"""Names of the levels that a share of heads is shown as; the index is the level."""
BOUNDS = (
    "",
    "up to 10\N{NO-BREAK SPACE}%",
    "up to 25\N{NO-BREAK SPACE}%",
    "up to 50\N{NO-BREAK SPACE}%",
    "over 50\N{NO-BREAK SPACE}%",
    "",
)
"""What each level means."""

_CONTROLS: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\t\n\r"}
_CONTROLS |= {0x7F: "\u2421", 0x2028: "\n", 0x2029: "\n"}
_CONTROLS |= dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), "\ufffd")
_CONTROLS |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")  # override directions

_ANSI = ("2", "0", "4", "1", "1;4", "7")


def visible(text: str) -> str:
    """The text with each control character replaced by a visible one, length unchanged.

    That covers NUL, escape sequences, lone surrogates and the marks that override the direction of writing.
    """
    return text.translate(_CONTROLS)


def level_of(share: np.ndarray) -> np.ndarray:
    """Index into `LEVELS` for shares in [0, 1]; 0 and 1 are levels of their own."""
    return np.searchsorted([1e-9, 0.1 + 1e-9, 0.25 + 1e-9, 0.5 + 1e-9, 1 - 1e-9], share, side="right")


def percent(share: float) -> str:
    """A share for people: `12.4 %`, `61 %`, `below 0.1 %`."""
    value = 100 * share
    if 0 < value < 0.1:
        return "below 0.1\N{NO-BREAK SPACE}%"
    digits = 0 if value >= 20 or value == round(value) else 1
    return f"{value:.{digits}f}\N{NO-BREAK SPACE}%"


def marked_html(text: str, spans: np.ndarray, levels: np.ndarray) -> str:
    """The text as HTML, escaped, neighbours of one level inside one `<mark>`; level 0 stays bare.

    Args:
        spans: (n, 2) disjoint ascending character spans.
        levels: (n,) index into `LEVELS` for each span.
    """
    pieces = []
    for piece, level in _runs(text, spans, levels):
        escaped = html.escape(visible(piece))
        pieces.append(f'<mark class="jq-l{level}">{escaped}</mark>' if level else escaped)
    return "".join(pieces).replace("\r\n", "\n").replace("\r", "\n")


def marked_text(text: str, spans: np.ndarray, levels: np.ndarray, *, ansi: bool) -> str:
    """The text for a terminal: with `ansi` every level in its own weight, else brackets from level 3 on."""
    if not ansi:
        levels = np.where(levels >= 3, 3, 0)
    pieces = []
    for piece, level in _runs(text, spans, levels):
        shown = visible(piece).replace("\r", "")
        if ansi:
            shown = f"\x1b[{_ANSI[level]}m{shown}\x1b[0m"
        elif level:
            shown = f"[{shown}]"
        pieces.append(shown)
    return "".join(pieces)


@dataclass(frozen=True)
class LegendEntry:
    """One line of a legend: a level, its name, what it means and how much of the text has it."""

    level: int
    name: str
    bound: str
    share: float


def document_html(
    sentences: Sequence[str], title: str, legend: Sequence[LegendEntry], body: str, label: str
) -> str:
    """A self-contained fragment: sentences, legend, and a box that scrolls and takes the keyboard's focus.

    Args:
        sentences: what a person reads first, the most important one first.
        title: of the legend.
        body: the document; the only argument that is HTML already, from `marked_html`.
        label: name of the box for a screen reader.
    """
    lead = "".join(f"<p>{_escaped(sentence)}</p>" for sentence in sentences)
    entries = "".join(
        f"<li>{_swatch(entry.level)}<span>{_escaped(entry.name)}"
        f"{f' <i>{_escaped(entry.bound)}</i>' if entry.bound else ''}</span>"
        f"<b>{_escaped(percent(entry.share))}</b></li>"
        for entry in legend
    )
    return (
        f'<div class="jq-map"><style>{_CSS}</style><div class="jq-lead">{lead}</div>'
        f'<p class="jq-title">{_escaped(title)}</p><ul class="jq-legend">{entries}</ul>'
        f'<div class="jq-text" dir="auto" role="region" tabindex="0" aria-label="{_escaped(label)}">{body}</div>'
        "</div>"
    )


def _escaped(text: str) -> str:
    return html.escape(visible(text))


def _swatch(level: int) -> str:
    return f'<mark class="jq-l{level}">word</mark>' if level else '<s class="jq-gone">word</s>'


def _runs(text: str, spans: np.ndarray, levels: np.ndarray) -> Iterator[tuple[str, int]]:
    """`(piece, level)` in reading order; space between two spans of one level belongs to their run."""
    start, end, current = 0, 0, 0
    for (first, last), level in zip(spans.tolist(), levels.tolist(), strict=True):
        gap = text[end:first]
        if level != current or gap.strip():
            if end > start:
                yield text[start:end], current
            if gap:
                yield gap, 0
            start, current = first, level
        end = last
    if end > start:
        yield text[start:end], current
    if end < len(text):
        yield text[end:], 0


# Every level differs from its neighbours in lightness *and* in the line below it, and keeps a contrast of 4.5 or more.
_LIGHT = """
--jq-paper:#fffefb;--jq-ink:#1d1b17;--jq-gone:#6a665f;--jq-edge:#ddd6c8;--jq-line:#7a4300;--jq-faint:#8f8677;--jq-shade:#0002;
--jq-1:transparent;--jq-2:#fff2c4;--jq-3:#ffe08a;--jq-4:#fcc64d;--jq-5:#f5a62b;--jq-on:#1d1b17;
"""
_DARK = """
--jq-paper:#16181d;--jq-ink:#f0ece3;--jq-gone:#9d9990;--jq-edge:#3a3d45;--jq-line:#ffd08a;--jq-faint:#7b766c;--jq-shade:#0009;
--jq-1:transparent;--jq-2:#372d17;--jq-3:#57431a;--jq-4:#d69a2c;--jq-5:#ffc65c;--jq-on:#16130b;
"""
_RULES = """
.jq-map{box-sizing:border-box;max-width:56rem;padding:1.1rem 1.25rem 1.25rem;border:1px solid var(--jq-edge);
border-radius:12px;background:var(--jq-paper);color:var(--jq-ink);text-align:start;
font:400 .9375rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.jq-map p{margin:0;color:inherit}
.jq-map .jq-lead p{margin:0 0 .35em;text-wrap:pretty}
.jq-map .jq-lead p:first-child{font-size:1.125rem;line-height:1.45;font-weight:600;margin-bottom:.5em;text-wrap:balance}
.jq-map .jq-title{margin:.9rem 0 .4rem;font-weight:600}
.jq-map ul.jq-legend.jq-legend{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(17rem,100%),1fr));
gap:.35rem 1.5rem;
list-style:none;margin:0 0 1rem;padding:0;font-size:.875rem;line-height:1.6}
.jq-map .jq-legend.jq-legend li{display:flex;gap:.7em;align-items:baseline;margin:0;padding:0;color:inherit}
.jq-map .jq-legend li>:first-child{flex:none;min-width:2.6em;text-align:center}
.jq-map .jq-legend span{flex:1}
.jq-map .jq-legend i{font-style:normal;white-space:nowrap;color:var(--jq-gone)}
.jq-map .jq-legend b{font-weight:600;font-variant-numeric:tabular-nums}
.jq-map .jq-gone{color:var(--jq-gone);text-decoration:none}
.jq-map .jq-text{max-height:min(32rem,75vh);overflow:auto;padding:1rem 1.1rem;border:1px solid var(--jq-edge);
border-radius:8px;color:var(--jq-gone);
background:linear-gradient(var(--jq-paper) 40%,transparent) 0 0/100% 3rem local no-repeat,
linear-gradient(transparent,var(--jq-paper) 60%) 0 100%/100% 3rem local no-repeat,
linear-gradient(var(--jq-shade),transparent) 0 0/100% .8rem no-repeat,
linear-gradient(transparent,var(--jq-shade)) 0 100%/100% .8rem no-repeat;
white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext;tab-size:4;
font:400 1.0625rem/1.75 Charter,"Iowan Old Style","Source Serif 4",Georgia,"Noto Serif",serif}
.jq-map .jq-text:focus-visible{outline:3px solid var(--jq-line);outline-offset:2px}
.jq-map mark{color:var(--jq-ink);background:var(--jq-1);border-radius:.2em;padding:.1em 0 .2em;
-webkit-box-decoration-break:clone;box-decoration-break:clone;
text-decoration:underline dotted 1px var(--jq-faint);text-underline-offset:.2em;text-decoration-skip-ink:none}
.jq-map mark.jq-l2{background:var(--jq-2);text-decoration:underline dashed 1px var(--jq-line)}
.jq-map mark.jq-l3{background:var(--jq-3);text-decoration:underline solid 1px var(--jq-line)}
.jq-map mark.jq-l4{background:var(--jq-4);color:var(--jq-on);
text-decoration:underline solid 2px;text-underline-offset:.14em}
.jq-map mark.jq-l5{background:var(--jq-5);color:var(--jq-on);
text-decoration:underline double 1.5px;text-underline-offset:.05em}
@media (max-width:40rem){.jq-map{padding:.9rem}.jq-map .jq-text{padding:.8rem .85rem;font-size:1rem}}
@media print{.jq-map .jq-text{max-height:none;overflow:visible}.jq-map mark{print-color-adjust:exact}}
"""
# The page's own choice of light or dark (Gradio, JupyterLab, Visual Studio Code) goes before the system's.
_PAGE_LIGHT = (
    "body:not(.dark) .gradio-container .jq-map,[data-jp-theme-light=true] .jq-map,.vscode-light .jq-map"
)
_PAGE_DARK = ".dark .jq-map,[data-jp-theme-light=false] .jq-map,.vscode-dark .jq-map"
_CSS = (
    f".jq-map{{color-scheme:light;{_LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{.jq-map{{color-scheme:dark;{_DARK}}}}}"
    f"{_PAGE_LIGHT}{{color-scheme:light;{_LIGHT}}}{_PAGE_DARK}{{color-scheme:dark;{_DARK}}}{_RULES}"
).replace("\n", "")
