"""A keepsake as one HTML page that opens anywhere: no scripts, nothing fetched, light and dark.

Every text that comes in is untrusted and escaped. Only styles whose hash stands in the page's own policy apply, so that
neither a mistake here nor anything in a document could load or run something.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from typing import TYPE_CHECKING

from judgeq.export.figures import duration, size
from judgeq.export.look import CSS, shown_rule
from judgeq.retention.presentation import TITLES
from judgeq.retention.rendering import percent, visible
from judgeq.retention.still import heat_svg, ramp_png

if TYPE_CHECKING:
    from judgeq.export.record import Keepsake
    from judgeq.inference.answers import Answer

STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
LEAD = (
    "While a language model reads, it takes notes on every word: the rows of its key/value cache. The full cache keeps "
    "them all; every other method throws most of them away, by a rule of its own, before the answer is written."
)
FINISH = {
    "length": "Cut at the longest answer that was allowed.",
    "cancelled": "Stopped before its end.",
}


def to_html(keepsake: Keepsake) -> str:
    """See `Keepsake.to_html`."""
    answers = keepsake.answers
    body = "".join(
        (
            f'<header><p class="brand">Judge Q</p><h1 dir="auto">{_text(keepsake.question)}</h1>'
            f'<p class="lead">{LEAD}</p></header><main>',
            f'<section aria-label="Answers" class="cards">{"".join(map(_card, answers))}</section>',
            f"<h2>What stayed in memory</h2>{_maps(keepsake)}",
            f"<h2>How this came about</h2>{_facts(keepsake)}",
            "<h3>The same again, in Python</h3>",
            f'<pre tabindex="0" role="region" aria-label="Python"><code>{_text(keepsake.to_python())}</code></pre>',
            "</main>",
        )
    )
    # Each map brings its style with it: once is enough, and in the head it can be named in the policy.
    rules = shown_rule([f"m{place}" for place in range(len(answers))])
    styles = list(dict.fromkeys([CSS, *STYLE.findall(body), rules]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(styles)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="referrer" content="no-referrer">'
        f"<title>{_text(_short(keepsake.question))} – Judge Q</title>"
        f"{''.join(f'<style>{style}</style>' for style in styles)}</head>"
        f"<body>{STYLE.sub('', body)}</body></html>\n"
    )


def title(method: str) -> str:
    """How a method is called above a card."""
    found = TITLES.get(method, method).removeprefix("The ")
    return found[:1].upper() + found[1:]


def _policy(styles: list[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles)
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    return f"default-src 'none'; style-src {allowed}; img-src data:; base-uri 'none'; form-action 'none'"


def _card(answer: Answer) -> str:
    share = answer.kv_bytes / answer.full_kv_bytes if answer.full_kv_bytes else 1.0
    counts = answer.retention.kept_rows
    said = (
        f'<p dir="auto">{_text(answer.text.strip())}</p>'
        if answer.text.strip()
        else "<p><i>No answer.</i></p>"
    )
    remark = f'<p class="remark">{FINISH[answer.finish]}</p>' if answer.finish in FINISH else ""
    speed = answer.timing.decode_tokens_per_s
    rows = (
        ("Notes kept", f"{counts.mean():,.0f}", f"of {answer.prompt_tokens:,}"),
        ("KV cache", size(answer.kv_bytes), f"{percent(share)} of full" if share < 1 else ""),
        ("First token", duration(answer.timing.ttft_s), ""),
        ("Speed", f"{speed:.1f} tokens/s" if speed else "–", ""),
    )
    table = "".join(
        f'<tr><th scope="row">{name}</th><td>{value}{f" <small>{more}</small>" if more else ""}</td></tr>'
        for name, value, more in rows
    )
    return (
        f'<article><h3>{_text(title(answer.method))}</h3><div class="answer">{said}{remark}</div>'
        f'<svg class="meter" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{100 * min(share, 1):.2f}" height="1"/></svg><table><tbody>{table}</tbody></table></article>'
    )


def _maps(keepsake: Keepsake) -> str:
    """A choice of methods, and what each of them kept; without styles, or on paper, one below the other."""
    answers = keepsake.answers
    choices = "".join(
        f'<input type="radio" name="method" id="m{place}"{" checked" if place == keepsake.told else ""}>'
        f'<label for="m{place}">{_text(title(answer.method))}</label>'
        for place, answer in enumerate(answers)
    )
    panels = "".join(
        f'<section class="panel m{place}" aria-label="{_text(title(answer.method))}"><h3 class="name">'
        f"{_text(title(answer.method))}</h3>{answer.retention.to_html()}{_heat(answer)}</section>"
        for place, answer in enumerate(answers)
    )
    return f'<fieldset class="choice"><legend>Method</legend>{choices}</fieldset>{panels}'


def _heat(answer: Answer) -> str:
    found = answer.retention
    label = f"How much of each stretch of the prompt {title(answer.method)} keeps, layer by layer"
    return (
        "<figure><figcaption>Where it stayed, layer by layer <span>Each line is a layer of the model, each column a "
        "stretch of the prompt: the brighter, the more stayed. The dotted lines mark where the document begins and "
        f'ends.</span></figcaption><div class="plot"><p class="layers"><span>layer 0</span>'
        f"<span>layer {found.layers - 1}</span></p>{heat_svg(found, label)}"
        f'<p class="tokens"><span>0</span><span>position in the prompt, in tokens</span>'
        f"<span>{found.tokens:,}</span></p></div>"
        f'<p class="ramp"><span>0 %</span><img src="{ramp_png()}" alt="">'
        "<span>100 % of the layer’s heads keep it</span></p></figure>"
    )


def _facts(keepsake: Keepsake) -> str:
    settings, first = keepsake.settings, keepsake.answers[0]
    notices = list(dict.fromkeys(notice for answer in keepsake.answers for notice in answer.notices))
    model = settings.model + (f", weights in {settings.quantization}" if settings.quantization else "")
    facts = [
        ("Date", f"{keepsake.made:%d %B %Y, %H:%M} {keepsake.made:%Z}"),
        ("Model", model),
        ("Prompt", f"{first.prompt_tokens:,} tokens"),
        ("Budget", _budget(settings.budget)),
        ("Question", "before the document" if settings.question_first else "after the document"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in keepsake.versions.items())),
        *(("Note", notice) for notice in notices),
    ]
    lines = "".join(f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in facts)
    return (
        f'<dl>{lines}</dl><p class="fine">Bytes and times were measured in this run. One reading of the prompt served '
        "all answers. A note is one row of keys and values, for one token, in each layer and KV head.</p>"
    )


def _budget(budget: int | float) -> str:
    return f"{budget:,} notes per KV head" if isinstance(budget, int) else f"{percent(budget)} of the prompt"


def _short(question: str) -> str:
    line = " ".join(question.split())
    return line if len(line) <= 80 else f"{line[:79]}…"


def _text(text: str) -> str:
    return html.escape(visible(text))
