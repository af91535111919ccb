"""The page's style sheet and its few lines of script. Colours are pairs of light and dark, text at 4.5 and more."""

from __future__ import annotations

_LIGHT = """
--ink:#1d1b17;--soft:#5f5b54;--paper:#fffefb;--page:#faf7f0;--edge:#ddd6c8;--track:#ece5d8;--link:#265a92;
--best:#fff2c4;--amber:#d98a13;--quiet:#f3eee4;
"""
_DARK = """
--ink:#f0ece3;--soft:#a8a49b;--paper:#16181d;--page:#0f1115;--edge:#3a3d45;--track:#2b2e36;--link:#8fb4df;
--best:#3d3113;--amber:#ffc65c;--quiet:#1d2027;
"""
_RULES = """
*{box-sizing:border-box}
html{background:var(--page);color:var(--ink);scroll-behavior:smooth;-webkit-text-size-adjust:100%}
body{margin:0;font:400 1rem/1.55 -apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",Arial,sans-serif}
main,.top>div{max-width:76rem;margin:0 auto;padding:0 clamp(1rem,4vw,3rem)}
main{padding-bottom:4rem}
.top{border-bottom:1px solid var(--edge);background:var(--paper);padding:2.25rem 0 1.4rem;margin-bottom:.5rem}
h1,h2{font-family:Charter,"Iowan Old Style","Source Serif 4",Georgia,"Noto Serif","Liberation Serif",serif;
letter-spacing:-.01em;overflow-wrap:anywhere}
h1{font-size:clamp(1.6rem,4vw,2.25rem);line-height:1.2;font-weight:600;margin:0 0 .4rem}
h2{font-size:1.6rem;line-height:1.25;font-weight:600;margin:3rem 0 .8rem}
h3{font-size:1.1875rem;line-height:1.35;margin:2.75rem 0 .6rem;overflow-wrap:anywhere}
h4{font-size:.9375rem;line-height:1.4;margin:0 0 .3rem;font-weight:600}
p{margin:0 0 .7rem;max-width:48rem;text-wrap:pretty}
.soft,.note{color:var(--soft)}
.note{font-size:.8125rem;line-height:1.5;max-width:48rem;margin:.5rem 0 0}
a{color:var(--link)}
:is(a,summary,input,.scroll):focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:3px}
nav ul{display:flex;flex-wrap:wrap;gap:.35rem 1.25rem;list-style:none;margin:.9rem 0 0;padding:0;
font-size:.875rem}
.summary{border:1px solid var(--edge);border-left:4px solid var(--amber);border-radius:10px;
background:var(--paper);
padding:1rem 1.25rem;margin:0 0 1rem}
.summary p{font-weight:600;font-size:1.0625rem;line-height:1.45;margin:0 0 .4rem;text-wrap:balance;
overflow-wrap:anywhere}
.summary ul{margin:0;padding:0 0 0 1.1rem;font-size:.9375rem;overflow-wrap:anywhere}
.summary li{margin:.15rem 0}
.summaries{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(26rem,100%),1fr));
margin-bottom:1.25rem}
.summaries .summary{margin:0}
.care{border-left:4px solid var(--soft);padding:.2rem 0 .2rem 1rem;margin:0 0 1.25rem;overflow-wrap:anywhere}
.care h3{font-size:.9375rem;margin:0}
.care ul{margin:.2rem 0 0;padding-left:1.1rem;font-size:.9375rem}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.25rem;list-style:none;margin:.2rem 0 .9rem;padding:0;
font-size:.875rem}
.legend li{display:flex;align-items:center;gap:.45rem}
.legend svg{flex:none}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(20.5rem,100%),1fr));
margin-bottom:1.25rem}
.grid>*{min-width:0}
.grid:empty{display:none}
@media (min-width:52rem){.grid:has(>:nth-child(4):last-child){grid-template-columns:1fr 1fr}}
.grid>:only-child{max-width:46rem}
.wide{grid-template-columns:repeat(auto-fit,minmax(min(29rem,100%),1fr));align-items:start}
figure{margin:0 0 1.25rem;padding:.85rem .75rem .6rem;border:1px solid var(--edge);border-radius:12px;
background:var(--paper);min-width:0}
figure.small,.grid figure{margin:0}figure.small{border:0;padding:0;background:none}
figcaption{font-size:.9375rem;line-height:1.4;font-weight:600;margin:0 0 .3rem}
figure.small figcaption{font-size:.8125rem;font-weight:400;line-height:1.35;margin:0 0 .2rem;
white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.plot{width:100%}
.plot :is(.xtick,.ytick) text,.plot :is(.xtitle,.ytitle){fill:var(--soft)!important}
.plot .heatmaplayer text[style*="68, 68, 68"]{fill:#000!important}
.needles{padding:1rem 1rem .75rem;border:1px solid var(--edge);border-radius:12px;background:var(--paper);
margin-bottom:1.25rem}
.needles .row{display:grid;gap:.5rem .9rem;grid-template-columns:repeat(var(--columns),minmax(0,22rem));
margin:0 0 .9rem}
.needles .row:last-of-type{margin-bottom:0}
.needles h4{margin:.2rem 0 .35rem;grid-column:1/-1}
.ramp{display:flex;align-items:center;gap:.6rem;font-size:.8125rem;color:var(--soft);margin:0 0 .9rem}
.ramp i{height:.8rem;width:min(16rem,40vw);border-radius:3px;border:1px solid var(--edge)}
.scroll{overflow-x:auto;border:1px solid var(--edge);border-radius:12px;background:var(--paper);
background:linear-gradient(90deg,var(--paper) 40%,transparent) 0 0/3rem 100% no-repeat local,
linear-gradient(270deg,var(--paper) 40%,transparent) 100% 0/3rem 100% no-repeat local,
linear-gradient(90deg,#0004,transparent) 0 0/.7rem 100% no-repeat,
linear-gradient(270deg,#0004,transparent) 100% 0/.7rem 100% no-repeat,var(--paper)}
.tabled{margin:0 0 1.25rem;min-width:0}
table{width:100%;border-collapse:collapse;font-size:.875rem;line-height:1.35;font-variant-numeric:tabular-nums}
th:first-child{padding-inline-start:.9rem}td:last-child,th:last-child{padding-inline-end:.9rem}
caption{caption-side:top;text-align:start;font-weight:600;font-size:.9375rem;padding:.8rem .9rem .5rem}
caption span{display:block;position:sticky;left:.9rem;width:max-content;max-width:min(100%,calc(100vw - 4rem));
overflow-wrap:anywhere}
th,td{padding:.42rem .6rem;text-align:right;vertical-align:top}
thead th{font-weight:600;color:var(--soft);border-bottom:1px solid var(--edge);vertical-align:bottom;
min-width:5.2rem}
:is(thead th:first-child,tbody th){text-align:start;position:sticky;left:0;background:var(--paper)}
tbody th{font-weight:400;min-width:7.5rem;max-width:20rem;overflow-wrap:anywhere}
tbody tr+tr>*{border-top:1px solid var(--track)}
td{white-space:nowrap}
td small{display:block;font-size:.75rem;color:var(--soft);font-weight:400}
td b{font-weight:700;background:var(--best);border-radius:4px;padding:.1em .35em;margin:0 -.35em}
tr.fails>*{background:var(--quiet)!important}
tr.average>*{border-top:2px solid var(--edge)!important;font-weight:600}
.prose :is(td,thead th){text-align:start;white-space:normal;overflow-wrap:anywhere}
.prose th{width:32%}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8125rem;padding:.75rem .9rem;border-radius:8px;
background:var(--quiet);margin:0 0 .9rem}
details{margin:0 0 1.25rem}
summary{cursor:pointer;font-weight:600;font-size:.9375rem;padding:.35rem 0}
details>:nth-child(2){margin-top:.6rem}
.choice{display:flex;flex-wrap:wrap;gap:.35rem .5rem;border:0;margin:0 0 .7rem;padding:0;align-items:center;
font-size:.875rem}
.choice[hidden]{display:none}
.choice legend{float:left;padding:0;margin-inline-end:.5rem;color:var(--soft);min-width:4rem}
.choice label{position:relative;padding:.25rem .8rem;border:1px solid var(--edge);border-radius:99px;
background:var(--paper);
cursor:pointer}
.choice input{position:absolute;opacity:0;inset:0;margin:0;width:100%;height:100%;cursor:pointer}
.choice label:has(:checked){background:var(--ink);color:var(--paper);border-color:var(--ink);font-weight:600}
.choice label:has(:focus-visible){outline:3px solid var(--link);outline-offset:2px}
.no-js .choice{display:none}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.4rem 1.25rem;font-size:.9375rem;max-width:56rem;
margin:0}
dt{font-weight:600}
dd{margin:0;color:var(--soft)}
@media (max-width:40rem){h2{margin-top:2.2rem}th,td{padding:.4rem .65rem}caption{padding:.7rem .65rem .4rem}
tbody th{min-width:8.5rem}.plot .heatmaplayer text[style*="68, 68, 68"]{fill:#000!important}
.needles{padding:.8rem .7rem .5rem}.needles .row{grid-template-columns:1fr 1fr}
dl{grid-template-columns:1fr;gap:.1rem}dd{margin-bottom:.6rem}}
@media (prefers-reduced-motion:reduce){html{scroll-behavior:auto}}
@media print{[data-panel][hidden]{display:block!important}.choice,nav{display:none}figure,.tabled{break-inside:avoid}}
"""
CSS = (
    f":root{{color-scheme:light;{_LIGHT}}}"
    f"@media (prefers-color-scheme:dark){{:root{{color-scheme:dark;{_DARK}}}}}{_RULES}"
).replace("\n", "")

# Figures are drawn one after another while the browser has time; of the panels of a choice, the one is shown that
# answers all its questions.
SCRIPT = """
document.documentElement.classList.remove("no-js");
for (const box of document.querySelectorAll(".chosen")) {
  const show = () => {
    const picked = [...box.querySelectorAll("input:checked")].map((input) => input.value);
    for (const panel of box.querySelectorAll("[data-panel]"))
      panel.hidden = panel.dataset.panel !== picked.join(" ");
  };
  box.addEventListener("change", show);
  show();
}
const left = [...document.querySelectorAll(".plot")];
const later = window.requestIdleCallback || ((work) => setTimeout(work, 1));
const options = {responsive: true, displaylogo: false, modeBarButtons: [["toImage"]]};
const draw = () => {
  const box = left.shift();
  if (!box) { document.documentElement.dataset.drawn = "all"; return; }
  const figure = JSON.parse(document.getElementById(box.dataset.figure).textContent);
  const bar = box.closest("figure.small") ? false : "hover";
  Plotly.newPlot(box, figure.data, figure.layout, {...options, displayModeBar: bar}).then(() => later(draw));
};
later(draw);
"""
