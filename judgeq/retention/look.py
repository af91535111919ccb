"""The style sheet of a marked document, for light and dark pages, phones and paper."""

from __future__ import annotations

# Every level differs from its neighbours in lightness *and* in the line below it, and keeps a contrast of 4.5 or more.
LIGHT = """
--jq-paper:#fffefb;--jq-ink:#1d1b17;--jq-gone:#6a665f;--jq-edge:#ddd6c8;--jq-line:#7a4300;--jq-faint:#8f8677;--jq-shade:#0002;
--jq-1:transparent;--jq-2:#fff2c4;--jq-3:#ffe08a;--jq-4:#fcc64d;--jq-5:#f5a62b;--jq-on:#1d1b17;
--jq-a:#ffe08a;--jq-b:#cfe3fb;--jq-both:#cbe8cf;
"""
DARK = """
--jq-paper:#16181d;--jq-ink:#f0ece3;--jq-gone:#9d9990;--jq-edge:#3a3d45;--jq-line:#ffd08a;--jq-faint:#7b766c;--jq-shade:#0009;
--jq-1:transparent;--jq-2:#372d17;--jq-3:#57431a;--jq-4:#d69a2c;--jq-5:#ffc65c;--jq-on:#16130b;
--jq-a:#57431a;--jq-b:#1d3f66;--jq-both:#1f4a2c;
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
.jq-map .jq-text .jq-block{margin:0;font:inherit;color:inherit;unicode-bidi:plaintext;
content-visibility:auto;contain-intrinsic-size:auto 16rem}
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
.jq-map mark.jq-a{background:var(--jq-a);text-decoration:underline solid 1.5px currentColor}
.jq-map mark.jq-b{background:var(--jq-b);text-decoration:underline dashed 1.5px currentColor}
.jq-map mark.jq-both{background:var(--jq-both);text-decoration:underline double 1.5px currentColor;
text-underline-offset:.1em}
.jq-map .jq-reading{position:sticky;top:0;z-index:1;box-sizing:border-box;min-height:6.2em;margin:0 0 .6rem;
padding:.55rem .8rem;border:1px solid var(--jq-edge);border-left:4px solid var(--jq-line);border-radius:8px;
background:var(--jq-paper);font-size:.875rem;line-height:1.45}
.jq-map .jq-reading p{font-size:inherit;line-height:inherit;text-wrap:pretty}
.jq-map .jq-reading p:first-child:not(:only-child){font-weight:600;overflow-wrap:anywhere}
.jq-map .jq-reading.jq-two{min-height:9.4em}
.jq-map .jq-reading.jq-held{border-left-width:8px}
::highlight(jq-word){background-color:#1d1b17;color:#fffefb;text-decoration:none}
.dark ::highlight(jq-word){background-color:#f0ece3;color:#16181d}
::highlight(jq-region){background-color:#265a92;color:#fff}
.dark ::highlight(jq-region){background-color:#8fb4df;color:#10131a}
@media (max-width:40rem){.jq-map{padding:.9rem}.jq-map .jq-reading{min-height:9.2em}
.jq-map .jq-reading.jq-two{min-height:15.6em}.jq-map .jq-text{padding:.8rem .85rem;font-size:1rem}}
@media print{.jq-map .jq-text{max-height:none;overflow:visible}.jq-map mark{print-color-adjust:exact}}
"""
# The page's own choice of light or dark (Gradio, JupyterLab, Visual Studio Code) goes before the system's.
_PAGE_LIGHT = (
    "body:not(.dark) .gradio-container .jq-map,[data-jp-theme-light=true] .jq-map,.vscode-light .jq-map"
)
_PAGE_DARK = ".dark .jq-map,[data-jp-theme-light=false] .jq-map,.vscode-dark .jq-map"
CSS = (
    f".jq-map{{color-scheme:light;{LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{.jq-map{{color-scheme:dark;{DARK}}}}}"
    f"{_PAGE_LIGHT}{{color-scheme:light;{LIGHT}}}{_PAGE_DARK}{{color-scheme:dark;{DARK}}}{_RULES}"
).replace("\n", "")
