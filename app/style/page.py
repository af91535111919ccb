"""The style sheet. Colours are pairs of light and dark with a contrast of at least 4.5 for text."""

from __future__ import annotations

from app.style.sections import SECTIONS

_LIGHT = """
  --q-serif: Charter, "Iowan Old Style", "Source Serif 4", Georgia, "Noto Serif", "Liberation Serif", serif;
  --q-ink: #1d1b17; --q-soft: #5f5b54; --q-paper: #fffefb; --q-page: #faf7f0; --q-edge: #ddd6c8;
  --q-blue: #265a92; --q-focus: #265a92; --q-amber: #d98a13; --q-good: #1f6b3a; --q-bad: #a32c1c;
  --q-track: #ece5d8; --q-good-bg: #e6f2e8; --q-bad-bg: #fbeae6;
"""
_DARK = """
  --q-ink: #f0ece3; --q-soft: #a8a49b; --q-paper: #16181d; --q-page: #0f1115; --q-edge: #3a3d45;
  --q-blue: #8fb4df; --q-focus: #8fb4df; --q-amber: #ffc65c; --q-good: #86d19c; --q-bad: #ff9d8c;
  --q-track: #2b2e36; --q-good-bg: #16291c; --q-bad-bg: #351b17;
"""

_PAGE = """
.gradio-container {
  max-width: 1560px!important; margin: 0 auto!important;
  padding: 2rem clamp(1rem, 4vw, 4rem) 1rem!important;
}
.gradio-container .main.fillable, .gradio-container .main.app { padding: 0!important; max-width: none; }
.gradio-container .html-container { padding: 0; }
.head h1 {
  font: 600 1.75rem/1.2 var(--q-serif);
  letter-spacing: -.01em; margin: 0 0 .4rem; color: var(--q-ink);
}
.head p {
  margin: 0; max-width: 62rem; font-size: 1rem; line-height: 1.55; color: var(--q-soft);
  text-wrap: pretty;
}
.head strong { font-weight: 600; color: var(--q-ink); }
#desk { gap: 2rem; align-items: flex-start; margin-top: .75rem; flex-wrap: nowrap; }
#inputs {
  flex: 0 0 21.5rem; gap: .9rem; position: sticky; top: 1rem; max-height: calc(100vh - 2rem);
  overflow-y: auto; flex-wrap: nowrap; scrollbar-width: thin; padding: 4px; margin: -4px;
}
#inputs > * { flex-shrink: 0; }
#results { gap: .75rem; min-width: 0!important; }
#results .section { font-size: 1.125rem; font-weight: 600; margin: 1.5rem 0 .1rem; color: var(--q-ink); }
.fine, .blank {
  margin: 0; font-size: .8125rem; line-height: 1.5; color: var(--q-soft); max-width: 56rem;
  text-wrap: pretty;
}
.blank {
  border: 1px dashed var(--q-edge); border-radius: 12px; padding: 2.25rem 1.25rem; text-align: center;
  font-size: .9375rem; max-width: none;
}
footer { margin-top: 2rem!important; }
footer [class*=divider] { display: none; }
"""

_FORM = """
#inputs .block, #results .block { overflow: visible!important; }
#inputs .form, #results .form {
  border: 0; background: transparent; gap: .9rem; box-shadow: none; overflow: visible;
}
#sample .wrap, #map-choice .wrap { border-color: var(--input-border-color); }
#document textarea { line-height: 1.55; font-size: .9375rem; resize: vertical; }
#upload {
  align-self: flex-start; margin-top: -.35rem; font-size: .8125rem; border-radius: 8px;
  padding: .3rem .7rem;
}
#budget { gap: 1rem; align-items: flex-start; flex-wrap: nowrap; }
#budget>.form { flex: 0 0 7.5rem!important; }
#share-side { gap: .3rem; flex: 1 1 auto; }
#share .head input[type=number], #share .tab-like-container, #length .min_value, #length .max_value,
#share .min_value, #share .max_value {
  display: none;
}
.dark input[type=range] { --neutral-200: #3a3d45; }
#note { font-size: .8125rem; line-height: 1.4; color: var(--q-soft); font-variant-numeric: tabular-nums; }
#act { gap: .75rem; flex-wrap: nowrap; }
#options {
  border: 1px solid var(--q-edge); border-radius: 10px; background: transparent; padding: .65rem .85rem;
}
#options .label-wrap { font-weight: 600; font-size: .875rem; }
.gradio-container :is(button, a, [role=button], .answer, input[type=range]):focus-visible {
  outline: 3px solid var(--q-focus); outline-offset: 2px;
}
.gradio-container textarea:focus, .gradio-container input[type=number]:focus {
  outline: 2px solid var(--q-focus); outline-offset: -1px;
}
.gradio-container label:has(input:is([type=checkbox], [type=radio]):focus-visible) {
  outline: 3px solid var(--q-focus); outline-offset: 2px; border-radius: 6px;
}
.gradio-container input:is([type=checkbox], [type=radio]):focus-visible { box-shadow: none; outline: 0; }
#options .label-wrap span { font-weight: 600; }
"""

_STATUS = """
.status p {
  display: flex; gap: .55rem; align-items: baseline; margin: 0; font-size: .875rem; line-height: 1.45;
  color: var(--q-ink);
}
.status .dot { flex: none; width: .55rem; height: .55rem; border-radius: 50%; background: var(--q-good); }
.status.busy .dot { background: var(--q-amber); animation: q-beat 1.2s ease-in-out infinite; }
.status.failed .dot { background: var(--q-bad); border-radius: 0; }
.bar { height: 4px; margin-top: .5rem; border-radius: 2px; background: var(--q-track); overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--q-amber); transition: width .2s; }
.notice {
  margin: .6rem 0 0; padding: .55rem .75rem; border-left: 3px solid var(--q-amber);
  background: var(--q-paper); font-size: .8125rem; line-height: 1.45; color: var(--q-ink);
}
"""

_CARDS = """
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(14.5rem, 100%), 1fr)); gap: 1rem;
}
.card {
  display: flex; flex-direction: column; min-width: 0; padding: 1rem 1.1rem .9rem;
  border: 1px solid var(--q-edge); border-top: 3px solid var(--q-edge); border-radius: 12px;
  background: var(--q-paper); color: var(--q-ink);
}
.card.judgeq { border-top-color: var(--q-amber); }
.card.full { border-top-color: var(--q-blue); }
.card header {
  display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: .35rem .6rem;
  min-height: 1.6rem;
}
.card h2 { margin: 0; font-size: 1.0625rem; font-weight: 600; color: inherit; }
.card .hint {
  margin: .1rem 0 .8rem; font-size: .8125rem; line-height: 1.4; color: var(--q-soft); min-height: 1.4em;
  text-wrap: balance;
}
.card .verdict {
  padding: .1rem .5rem; border-radius: 99px; font-size: .75rem; font-weight: 600; white-space: nowrap;
}
.card .found { color: var(--q-good); background: var(--q-good-bg); }
.card .missed { color: var(--q-bad); background: var(--q-bad-bg); }
.card .answer {
  flex: 1 1 auto; min-height: 6.6rem; max-height: 19rem; overflow: auto; margin-bottom: .9rem;
}
.card .answer p {
  margin: 0;
  font: 400 1.0625rem/1.55 var(--q-serif);
  color: inherit; white-space: pre-wrap; overflow-wrap: anywhere;
}
.card .answer .remark {
  margin-top: .4rem; font-family: inherit; font-size: .75rem; line-height: 1.4; color: var(--q-soft);
}
.card .answer ins { text-decoration: underline dotted 2px var(--q-blue); text-underline-offset: .18em; }
.card .answer del { color: var(--q-soft); text-decoration: line-through; }
.asked {
  margin: 0 0 .7rem; font: 400 1.1875rem/1.4 var(--q-serif); color: var(--q-ink); overflow-wrap: anywhere;
}
.notice + .asked { margin-top: .8rem; }
#again { gap: .75rem; align-items: flex-end; }
#ask-again { white-space: nowrap; padding: .58rem 1rem; font-size: .9375rem; }
.earlier { margin-top: 1rem; font-size: .875rem; line-height: 1.5; color: var(--q-ink); }
.earlier h3 { margin: 0 0 .2rem; font-size: .875rem; font-weight: 600; color: inherit; }
.earlier summary { padding: .3rem 0; cursor: pointer; overflow-wrap: anywhere; }
.earlier small { font-size: 1em; color: var(--q-soft); }
.earlier dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: .2rem 0 .6rem 1rem; }
.earlier dt { color: var(--q-soft); }
.earlier dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.caret {
  display: inline-block; width: .5em; height: 1em; margin-left: .1em; vertical-align: -.12em;
  background: var(--q-amber); animation: q-beat 1s steps(2) infinite;
}
.ghost i {
  display: block; height: .7rem; margin: .45rem 0; border-radius: 4px; background: var(--q-track);
  animation: q-beat 1.6s infinite;
}
.ghost i:nth-child(2) { width: 86%; }
.ghost i:nth-child(3) { width: 58%; }
.meter {
  height: 6px; border-radius: 3px; background: var(--q-track); overflow: hidden; margin-bottom: .5rem;
}
.meter i {
  display: block; height: 100%; border-radius: 3px; background: var(--q-soft); transition: width .5s;
}
.card.full .meter i { background: var(--q-blue); }
.card.judgeq .meter i { background: var(--q-amber); }
.gradio-container .costs {
  width: 100%; margin: 0; border: 0!important; border-collapse: collapse; font-size: .8125rem;
  font-variant-numeric: tabular-nums;
}
.gradio-container .costs tr { border: 0!important; background: none; }
.gradio-container .costs :is(th, td) {
  padding: .26rem 0!important; border: 0!important; color: inherit; background: none; line-height: 1.45;
  white-space: nowrap;
}
.gradio-container .costs tr+tr :is(th, td) { border-top: 1px solid var(--q-track)!important; }
.gradio-container .costs th { font-weight: 400; color: var(--q-soft); text-align: left; }
.gradio-container .costs td { text-align: right; font-weight: 600; }
.costs small { font-size: 1em; font-weight: 400; color: var(--q-soft); }
"""

_SMALL = """
@keyframes q-beat {
  50% { opacity: .35; }
}
@media (prefers-reduced-motion:reduce) {
  .gradio-container * { animation: none!important; transition: none!important; }
}
@media (max-width:900px) {
  #desk { flex-direction: column; flex-wrap: nowrap; gap: 1.5rem; }
  #inputs, #results {
    position: static; max-height: none; overflow: visible; flex: 1 1 auto; width: 100%;
    min-width: 0!important; padding: 0; margin: 0;
  }
  .card .answer { min-height: 4.5rem; }
  .card .hint { min-height: 0; }
}
"""

CSS = (
    f".gradio-container{{{_LIGHT}}}.dark .gradio-container,.dark.gradio-container,.dark{{{_DARK}}}"
    + "".join((_PAGE, _FORM, _STATUS, _CARDS, *SECTIONS, _SMALL))
)
