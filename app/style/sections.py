"""The style of the page's sections, one string a section; colours are those of `app.style.page`."""

from __future__ import annotations

_MAP = """
#map { gap: 1rem; }
#map-choice { align-items: flex-end; gap: .75rem 1rem; }
.gradio-container .jq-map { max-width: none; font-family: inherit; }
#map-heatmap, #map-heads, #survival-layers {
  border: 1px solid var(--q-edge); border-radius: 12px; background: var(--q-paper);
  padding: .75rem .5rem .5rem;
}
"""

_SPAN = """
.gradio-container { overflow: clip!important; }
#span-row { align-items: flex-end; gap: .75rem; }
#span-row .form { flex: 1 1 auto; }
#span-row button { flex: none; padding: .5rem 1rem; height: 2.5rem; font-size: .9375rem; white-space: nowrap; }
.gradio-container .survival {
  width: 100%; max-width: none; margin: 0; border: 0!important; border-collapse: collapse;
  font-size: .875rem; font-variant-numeric: tabular-nums; color: var(--q-ink);
}
.gradio-container .survival caption {
  padding: 0 0 .35rem; text-align: start; font-weight: 600; color: var(--q-ink); overflow-wrap: anywhere;
}
.gradio-container .survival tr { border: 0!important; background: none; }
.gradio-container .survival :is(th, td) {
  padding: .3rem 0!important; border: 0!important; color: inherit; background: none; line-height: 1.4;
}
.gradio-container .survival th { font-weight: 400; text-align: start; white-space: nowrap; }
.gradio-container .survival td:last-child { width: 4rem; text-align: end; font-weight: 600; white-space: nowrap; }
.survival .track { width: 70%; }
@media (max-width:900px) { .survival .track { width: 50%; } }
.gradio-container .survival .track { padding: .3rem 1rem!important; }
.survival .track i {
  display: block; height: .6rem; border-radius: 3px; background: var(--q-amber); border: 1px solid var(--q-soft);
  min-width: 2px;
}
"""

_FILES = """
#prompt-length { margin-top: -.55rem; }
.length { margin: 0; font-size: .8125rem; line-height: 1.4; color: var(--q-soft); font-variant-numeric: tabular-nums; }
.length.over { color: var(--q-bad); }
#document { position: relative; }
#document.dropping::after {
  content: "Drop the file to read it"; position: absolute; inset: 0; display: grid; place-items: center;
  font-weight: 600; color: var(--q-ink); background: color-mix(in srgb, var(--q-paper) 88%, transparent);
  pointer-events: none; z-index: 5; border: 2px dashed var(--q-focus); border-radius: 4px;
}
"""

_SWEEP = """
#pins { border: 1px solid var(--q-edge); border-radius: 10px; background: transparent; padding: .65rem .85rem; }
#pins .label-wrap, #pins .label-wrap span { font-weight: 600; font-size: .875rem; }
#sweep, #sweep-panel, #sweep-numbers { min-width: 0!important; max-width: 100%; }
#sweep { gap: .9rem; }
#sweep-figure :is(.infolayer, .cartesianlayer) text { fill: var(--q-soft)!important; }
#sweep-act { gap: .75rem; }
#sweep-figure {
  border: 1px solid var(--q-edge); border-radius: 12px; background: var(--q-paper);
  padding: .75rem .5rem .5rem;
}
.sweep-answer { margin: 0 0 .6rem; font-size: .875rem; line-height: 1.5; color: var(--q-soft); }
.sweep-answer q {
  font: 400 1rem/1.5 var(--q-serif); color: var(--q-ink); white-space: pre-wrap; overflow-wrap: anywhere;
}
.sweep-table { overflow-x: auto; contain: inline-size; }
.gradio-container .sweep-table table {
  margin: 0; border: 0!important; border-collapse: collapse; font-size: .8125rem;
  font-variant-numeric: tabular-nums;
}
.gradio-container .sweep-table caption {
  padding: 0 0 .35rem; text-align: left; font-weight: 600; color: var(--q-ink);
}
.gradio-container .sweep-table tr { border: 0!important; background: none; }
.gradio-container .sweep-table :is(th, td) {
  padding: .3rem 1.4rem .3rem 0!important; border: 0!important; border-top: 1px solid var(--q-track)!important;
  background: none; line-height: 1.45; text-align: left; white-space: nowrap; color: var(--q-ink); font-weight: 400;
}
.gradio-container .sweep-table thead th { border-top: 0!important; color: var(--q-soft); white-space: normal; }
.sweep-table small { font-size: 1em; color: var(--q-soft); }
"""

_TAKE = """
#takeaway { gap: .9rem; }
#takeaway-files { gap: .6rem; flex-wrap: wrap; }
#takeaway-files button { flex: 0 0 auto; }
#take-link input, #take-link textarea { font-size: .8125rem; }
#take-python { border: 1px solid var(--q-edge); border-radius: 10px; background: transparent; padding: .65rem .85rem; }
#take-python .label-wrap span { font-weight: 600; }
#takeaway, #take-python, #take-python .block { min-width: 0!important; max-width: 100%; }
#take-python .cm-editor { min-width: 0; }
#take-python .cm-line, #take-python .cm-line span { color: var(--q-ink)!important; }
#take-python .cm-gutters { display: none; }
"""

_CALCULATOR = """
#calculator { border: 1px solid var(--q-edge); border-radius: 10px; background: transparent; padding: .65rem .85rem; }
#calculator .label-wrap span { font-weight: 600; }
#calculator-inputs { gap: .9rem; margin: .75rem 0; }
#calculator-inputs .form { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); width: 100%; }
#calculator-inputs .form > :first-child { grid-column: span 2; }
.calculated { padding: .9rem 1.1rem; border: 1px dashed var(--q-soft); border-radius: 12px; color: var(--q-ink); }
.calculated p { margin: 0 0 .5rem; }
.calculated .mark { font-size: .8125rem; font-weight: 600; color: var(--q-soft); }
.calculated .lead { font: 400 1.0625rem/1.5 var(--q-serif); text-wrap: pretty; }
.gradio-container .calculated table { width: 100%; margin: 0; border: 0!important; border-collapse: collapse; }
.gradio-container .calculated :is(tr, th, td) { border: 0!important; background: none; color: inherit; }
.gradio-container .calculated :is(th, td) {
  padding: .3rem 0!important; font-size: .875rem; line-height: 1.4; text-align: right;
  font-variant-numeric: tabular-nums;
}
.gradio-container .calculated th:first-child { text-align: left; }
.gradio-container .calculated th { font-weight: 400; color: var(--q-soft); }
.gradio-container .calculated td { font-weight: 600; }
.gradio-container .calculated tbody tr :is(th, td) { border-top: 1px solid var(--q-track)!important; }
#calculator .wrap { border-color: var(--input-border-color); }
.gradio-container .calculated td { white-space: nowrap; padding-left: .75rem!important; }
.calculated small { display: block; font-size: .8125rem; font-weight: 400; color: var(--q-soft); }
"""

_MODELS = """
#models { border: 1px solid var(--q-edge); border-radius: 10px; background: transparent; padding: .65rem .85rem; }
#models .label-wrap span { font-weight: 600; }
#models .fine { margin-top: .5rem; }
#models .wrap { border-color: var(--input-border-color); }
#token-buttons { gap: .6rem; flex-wrap: wrap; }
#token-buttons button, #model-load, #token-take {
  flex: 0 0 auto; align-self: flex-start; font-size: .8125rem; border-radius: 8px; padding: .3rem .7rem;
  width: auto; min-width: 0;
}
"""

SECTIONS = (_MAP, _SPAN, _FILES, _SWEEP, _TAKE, _CALCULATOR, _MODELS)
