"""The page's style sheet. Colours are pairs of light and dark with a contrast of at least 4.5 for text."""

from __future__ import annotations

from collections.abc import Sequence

_LIGHT = """
--ink:#1d1b17;--soft:#5f5b54;--paper:#fffefb;--page:#faf7f0;--edge:#ddd6c8;--track:#ece5d8;--link:#265a92;
--amber:#d98a13;--on:#fffefb;
"""
_DARK = """
--ink:#f0ece3;--soft:#a8a49b;--paper:#16181d;--page:#0f1115;--edge:#3a3d45;--track:#2b2e36;--link:#8fb4df;
--amber:#ffc65c;--on:#16130b;
"""
_RULES = """
*{box-sizing:border-box}
html{background:var(--page);color:var(--ink);-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:76rem;padding:2.25rem clamp(1rem,4vw,3rem) 4rem;
font:400 1rem/1.55 -apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",Arial,sans-serif}
h1,h2{font-family:Charter,"Iowan Old Style","Source Serif 4",Georgia,"Noto Serif","Liberation Serif",serif;
font-weight:600;letter-spacing:-.01em;overflow-wrap:anywhere}
h1{font-size:clamp(1.6rem,4vw,2.25rem);line-height:1.2;margin:.2rem 0 .6rem;white-space:pre-line}
h2{font-size:1.5rem;line-height:1.25;margin:2.75rem 0 .8rem}
h3{font-size:1.0625rem;line-height:1.35;margin:0 0 .4rem}
p{margin:0}
.brand{font-weight:600;color:var(--soft)}
.lead{max-width:48rem;color:var(--soft);text-wrap:pretty;margin-bottom:1.75rem}
.cards{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(15rem,100%),1fr))}
article{display:flex;flex-direction:column;min-width:0;padding:1rem 1.1rem .9rem;border:1px solid var(--edge);
border-radius:12px;background:var(--paper)}
.answer{flex:1;margin-bottom:1rem}
.answer p{font:400 1.0625rem/1.55 Charter,"Iowan Old Style","Source Serif 4",Georgia,"Noto Serif",serif;
white-space:pre-wrap;overflow-wrap:anywhere}
.answer .remark{margin-top:.4rem;font:inherit;font-size:.8125rem;color:var(--soft)}
.meter{display:block;width:100%;height:6px;border-radius:3px;background:var(--track);fill:var(--amber);
margin-bottom:.5rem}
table{width:100%;border-collapse:collapse;font-size:.8125rem;line-height:1.45;font-variant-numeric:tabular-nums}
th,td{padding:.26rem 0;white-space:nowrap}
tr+tr :is(th,td){border-top:1px solid var(--track)}
th{font-weight:400;color:var(--soft);text-align:start}
td{text-align:end;font-weight:600}
small{font-size:1em;font-weight:400;color:var(--soft)}
.choice{display:flex;flex-wrap:wrap;gap:.5rem;border:0;margin:0 0 1rem;padding:0;min-width:0}
.choice legend{float:left;padding:.35rem .25rem .35rem 0;font-weight:600}
.choice input{position:absolute;opacity:0}
.choice label{padding:.35rem .85rem;border:1px solid var(--soft);border-radius:99px;cursor:pointer;
background:var(--paper)}
.choice :checked+label{background:var(--ink);border-color:var(--ink);color:var(--page);font-weight:600}
.choice :checked+label::before{content:"✓ "/""}
.choice :focus-visible+label,pre:focus-visible{outline:3px solid var(--link);outline-offset:2px}
.panel{display:grid;gap:1rem}
.jq-map.jq-map{max-width:none}
.panel .name{display:none;margin:1rem 0 0}
figure{margin:0;padding:1rem 1.1rem;border:1px solid var(--edge);border-radius:12px;background:var(--paper)}
figcaption{font-weight:600;margin-bottom:.8rem}
figcaption span{display:block;font-weight:400;font-size:.8125rem;color:var(--soft);max-width:48rem}
.plot{display:grid;grid-template-columns:auto 1fr;gap:.35rem .6rem;font-size:.8125rem;color:var(--soft);
font-variant-numeric:tabular-nums}
.layers{display:flex;flex-direction:column;justify-content:space-between;line-height:1}
.heat{display:block;width:100%;height:min(22rem,60vw);min-height:11rem;border-radius:4px;image-rendering:pixelated}
.heat rect:hover{fill:#fff3}
.tokens{grid-column:2;display:flex;justify-content:space-between;gap:.5rem;text-align:center}
.ramp{display:flex;flex-wrap:wrap;align-items:center;gap:.3rem .6rem;margin-top:.8rem;font-size:.8125rem;
color:var(--soft)}
.ramp img{width:min(16rem,40vw);height:.8rem;border-radius:3px}
dl{display:grid;grid-template-columns:auto 1fr;gap:.3rem 1.25rem;margin:0 0 .8rem;font-size:.9375rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.fine{font-size:.8125rem;color:var(--soft);max-width:48rem;margin-bottom:1.5rem}
pre{margin:0;padding:1rem 1.1rem;overflow:auto;border:1px solid var(--edge);border-radius:12px;background:var(--paper);
font:.8125rem/1.5 ui-monospace,"SF Mono",Menlo,Consolas,"Liberation Mono",monospace}
"""
CSS = (
    f":root{{color-scheme:light dark;{_LIGHT}}}@media (prefers-color-scheme:dark){{:root{{{_DARK}}}}}{_RULES}"
).replace("\n", "")


def shown_rule(names: Sequence[str]) -> str:
    """On a screen only the panel of the chosen method shows; on paper, and in old browsers, all of them."""
    each = "".join(f"main:has(#{name}:checked) .panel:not(.{name}){{display:none}}" for name in names)
    return (
        f"@media screen{{{each}}}@media print{{.choice{{display:none}}.panel .name{{display:block}}}}"
        "@supports not selector(:has(a)){.choice{display:none}.panel .name{display:block}}"
    )
