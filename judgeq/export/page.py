"""A comparison as one HTML page that opens anywhere: no scripts, nothing fetched, light and dark.

Every text is untrusted and escaped. Only styles whose hash is in the page's own policy apply, so that
neither a mistake here nor anything in a document could load or run something.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from markupsafe import Markup

from judgeq.look.format import one_line, percent
from judgeq.look.pages import css, render
from judgeq.look.palette import variables
from judgeq.methods import title_of
from judgeq.retention.attended import Source
from judgeq.retention.figures import heat_values, ramp_png
from judgeq.retention.html import style_sheet

if TYPE_CHECKING:
    from judgeq.export.comparison import Comparison
    from judgeq.inference.answers import Answer

FINISH = {"length": "Cut at the longest answer that was allowed.", "cancelled": "Stopped before its end."}


def to_html(comparison: Comparison) -> str:
    """See `Comparison.to_html`."""
    answers, map_style = comparison.answers, style_sheet()
    titles = [title_of(answer.method) for answer in answers]
    label = "How much of each stretch of the prompt {} keeps, layer by layer"
    # Each map brings its style with it: once is enough, and in the head it can be named in the policy.
    maps = [answer.retention.to_html().replace(f"<style>{map_style}</style>", "") for answer in answers]
    styles = [Markup(variables()) + css("base", "export"), map_style, _choice_rules(len(answers))]
    return render(
        "export.html.j2",
        comparison=comparison,
        styles=styles,
        policy=_policy(styles),
        short=one_line(comparison.question)[:80],
        cards=list(zip(titles, answers, map(_sources, answers), strict=True)),
        finish=FINISH,
        panels=[
            (title, answer.retention, Markup(html), heat_values(answer.retention, label.format(title)))
            for title, answer, html in zip(titles, answers, maps, strict=True)
        ],
        ramp=ramp_png(),
        facts=_facts(comparison),
    )


def _sources(answer: Answer) -> list[Source]:
    """The sentences that an answer leans on, where that was recorded."""
    return [] if answer.attended is None else answer.attended.sources()


def _policy(styles: list[Markup]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles)
    allowed = " ".join(f"'sha256-{found}'" for found in hashes)
    return f"default-src 'none'; style-src {allowed}; img-src data:; base-uri 'none'; form-action 'none'"


def _choice_rules(count: int) -> Markup:
    """On a screen only the panel of the chosen method shows; on paper, and in old browsers, all of them."""
    each = "".join(f"main:has(#m{n}:checked) .panel:not(.m{n}){{display:none}}" for n in range(count))
    return Markup(
        f"@media screen{{{each}}}@media print{{.choice{{display:none}}.panel .name{{display:block}}}}"
        "@supports not selector(:has(a)){.choice{display:none}.panel .name{display:block}}"
    )


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    settings, budget = comparison.settings, comparison.settings.budget
    notices = dict.fromkeys(notice for answer in comparison.answers for notice in answer.notices)
    stored = f", weights in {settings.quantization}" if settings.quantization else ""
    kept = f"{budget:,} rows per KV head" if isinstance(budget, int) else f"{percent(budget)} of the prompt"
    return [
        ("Date", f"{comparison.made:%d %B %Y, %H:%M} {comparison.made:%Z}"),
        ("Model", f"{settings.model}{stored}"),
        ("Precision", comparison.answers[0].precision),
        ("Prompt", f"{comparison.answers[0].prompt_tokens:,} tokens"),
        ("Budget", kept),
        ("Question", "before the document" if settings.question_first else "after the document"),
        *([("Answers continue", settings.answer_prefix)] if settings.answer_prefix else []),
        ("Versions", ", ".join(f"{name} {version}" for name, version in comparison.versions.items())),
        *(("Note", notice) for notice in notices),
    ]
