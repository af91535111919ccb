"""The answer cards and the status line as HTML. Every text that comes in is untrusted and escaped here."""

from __future__ import annotations

import html

from app import text
from app.sections.ask.differences import differences
from app.server.run import Run
from app.server.task import Earlier, Lane
from judgeq.look.format import duration as duration
from judgeq.look.format import size as size
from judgeq.look.format import visible
from judgeq.methods import METHODS, title_of


def percent(share: float) -> str:
    """A share for people: `11 %`, `2.4 %`."""
    value = 100 * share
    return f"{value:.{0 if value >= 9.95 or value == 0 else 1}f} %"


def empty_cards(methods: tuple[str, ...]) -> str:
    """Cards that wait for a question."""
    return _grid([_card(Lane(method), None, "idle", "") for method in methods])


def run_cards(run: Run) -> str:
    """Cards of a run as far as it is."""
    busy = not run.finished.is_set()
    cards = [_card(lane, run, _state(lane, run, busy), run.task.expected) for lane in run.lanes]
    banner = ""
    if run.phase == "stored":
        banner = f'<p class="notice">{html.escape(text.STORED.format(computed=run.computed))}</p>'
    question = f'<p class="asked">{_escaped(run.task.question)}</p>'
    return banner + question + _grid(cards, busy) + _earlier(run.earlier)


def loading_status(line: str, share: float | None) -> str:
    """The status line while the model is loaded."""
    return _status("busy", text.LOADING.format(line=line.rstrip(" .…")), share)


def idle_status(model: str) -> str:
    """The status line of a page that waits for a question."""
    return _status("ready", text.READY.format(model=model))


def error_status(message: str) -> str:
    """The status line when something has to be mended."""
    return _status("failed", message)


def busy_status(line: str, share: float | None = None) -> str:
    """A status line while something is at work, with how far it is."""
    return _status("busy", line, share)


def ready_status(line: str) -> str:
    """A status line when something has come to its end."""
    return _status("ready", line)


def run_status(run: Run) -> str:
    """The status line of a run: what it does, how far it is, and what a person should know about it."""
    done, layers = run.layers
    if run.phase == "loading":
        return loading_status(*run.host.progress)
    if run.phase == "waiting":
        return _status("busy", text.WAITING.format(place=run.place))
    if run.phase == "reading":
        return _status(
            "busy",
            text.READING.format(what=run.what, done=done, layers=layers or "…"),
            done / layers if layers else 0.0,
        )
    if run.phase == "writing":
        count = len(run.lanes)
        return _status(
            "busy", text.WRITING.format(count=f"{count} answers") if count > 1 else text.WRITING_ONE, 1.0
        )
    if run.phase == "stopped":
        return _status("ready", text.STOPPED)
    if run.phase == "failed":
        return _status("failed", text.FAILED)
    ready = max((lane.answer.timing.prefill_s for lane in run.lanes if lane.answer), default=run.prefill_s)
    total = ready + sum(sum(lane.seconds) for lane in run.lanes)
    words = text.DONE_AGAIN if run.again else text.DONE
    line = words.format(prefill=duration(run.prefill_s), total=duration(total))
    return _status("ready", line) + "".join(
        f'<p class="notice">{html.escape(note)}</p>' for note in run.notices
    )


def _status(kind: str, line: str, share: float | None = None) -> str:
    bar = ""
    if share is not None:
        value = round(100 * min(max(share, 0.0), 1.0))
        bar = (
            f'<div class="bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{value}"><i style="width:{value}%"></i></div>'
        )
    return (
        f'<div class="status {kind}"><p role="status"><i class="dot"></i>{html.escape(line)}</p>{bar}</div>'
    )


def _state(lane: Lane, run: Run, busy: bool) -> str:
    if lane.finish == "cancelled":
        return "stopped"
    if lane.finish:
        return "done"
    if not busy:
        return "stopped"
    return "writing" if run.phase == "writing" else "waiting"


def _escaped(written: str) -> str:
    """Somebody's text as HTML, control characters made visible."""
    return html.escape(visible(written))


def _grid(cards: list[str], busy: bool = False) -> str:
    return f'<div class="cards" aria-busy="{str(busy).lower()}">{"".join(cards)}</div>'


def _card(lane: Lane, run: Run | None, state: str, expected: str) -> str:
    title, hint = title_of(lane.method), METHODS[lane.method].summary if lane.method in METHODS else ""
    return (
        f'<article class="card {state} {html.escape(lane.method)}" aria-label="{html.escape(title)}">'
        f"<header><h2>{html.escape(title)}</h2>{_verdict(lane, state, expected)}</header>"
        f'<p class="hint">{html.escape(hint)}</p>'
        f'<div class="answer" tabindex="0" role="region" aria-label="Answer of {html.escape(title)}">'
        f"{_answer(lane, state, run)}</div>{_costs(lane, run)}</article>"
    )


def _verdict(lane: Lane, state: str, expected: str) -> str:
    """Whether a sample's known fact is in the answer; a word and a sign, not only a colour."""
    if not expected or state != "done":
        return ""
    found = expected.lower() in lane.text.lower()
    kind, sign, words = ("found", "✓", text.FOUND) if found else ("missed", "✗", text.MISSED)
    return f'<span class="verdict {kind}">{sign} {html.escape(words.format(expected=expected))}</span>'


def _answer(lane: Lane, state: str, run: Run | None) -> str:
    shown = _escaped(lane.text.strip())
    if state == "writing":
        return f'<p>{shown}<i class="caret"></i></p>'
    if state == "waiting":
        return '<p class="ghost"><i></i><i></i><i></i></p>'
    if state == "done" and not shown:
        return f'<p class="remark">{text.SILENT}</p>'
    longest = run.task.max_new_tokens if run else 0
    remark = {"length": text.CUT.format(tokens=longest), "cancelled": text.CANCELLED}.get(
        lane.finish or "", ""
    )
    remarks = [remark] if remark else []
    reference = _reference(lane, run)
    if state == "done" and reference is not None:
        shown, compared = _compared(reference, lane.text)
        remarks.append(compared)
    return f"<p>{shown}{' …' if remark and shown else ''}</p>" + "".join(
        f'<p class="remark">{each}</p>' for each in remarks
    )


def _reference(lane: Lane, run: Run | None) -> str | None:
    """The full cache's answer where it can be compared with; both were cut at the same length."""
    if run is None or lane.method == "full":
        return None
    full = next((each for each in run.lanes if each.method == "full"), None)
    return full.text if full is not None and full.finish in ("end", "stop", "length") else None


def _compared(reference: str, answer: str) -> tuple[str, str]:
    """An answer with its differences from the reference marked, and a sentence about them."""
    pieces = differences(reference, answer)
    if pieces is None:
        return _escaped(answer.strip()), text.OTHER
    if all(kind == "same" for _, kind in pieces):
        return _escaped(answer.strip()), text.SAME
    tags = {"same": ("", ""), "added": ("<ins>", "</ins>"), "missing": ("<del>", "</del> ")}
    marked = []
    for piece, kind in pieces:
        before, after = tags[kind]
        words = piece.rstrip()
        marked.append(f"{before}{_escaped(words)}{after}{piece[len(words) :] if kind != 'missing' else ''}")
    return "".join(marked).strip(), text.CHANGED


def _earlier(questions: tuple[Earlier, ...]) -> str:
    """Earlier questions about the same document, the last one first."""
    if not questions:
        return ""
    entries = "".join(
        f"<details><summary>{_escaped(asked.question)} "
        f"<small>{text.EARLIER_COST.format(prefill=duration(asked.prefill_s))}</small></summary><dl>"
        + "".join(
            f"<dt>{html.escape(title_of(method))}</dt><dd>{_escaped(answer.strip())}</dd>"
            for method, answer in asked.answers
        )
        + "</dl></details>"
        for asked in reversed(questions)
    )
    return f'<section class="earlier" aria-label="{text.EARLIER}"><h3>{text.EARLIER}</h3>{entries}</section>'


def _costs(lane: Lane, run: Run | None) -> str:
    """Measured figures as a small table; a dash where nothing is known yet."""
    rows = kv = first = speed = text.PENDING
    of_rows = of_full = ""
    share = 0.0
    if (
        run
        and lane.rows is not None
        and lane.kv_bytes is not None
        and run.prompt_tokens
        and run.full_kv_bytes
    ):
        share = lane.kv_bytes / run.full_kv_bytes
        rows, of_rows = f"{lane.rows:,.0f}", text.OF_ROWS.format(tokens=run.prompt_tokens)
        kv, of_full = size(lane.kv_bytes), text.OF_FULL.format(share=percent(share)) if share < 1 else ""
    if lane.ttft_s is not None:
        first = duration(lane.ttft_s)
    if lane.tokens_per_s is not None:
        speed = f"{lane.tokens_per_s:.1f} tokens/s"
    lines = (
        (text.ROWS_KEPT, rows, of_rows),
        (text.KV_CACHE, kv, of_full),
        (text.FIRST_TOKEN, first, ""),
        (text.SPEED, speed, ""),
    )
    body = "".join(
        f'<tr><th scope="row">{name}</th><td>{value}{f" <small>{more}</small>" if more else ""}</td></tr>'
        for name, value, more in lines
    )
    return (
        f'<div class="meter" aria-hidden="true"><i style="width:{100 * min(share, 1):.1f}%"></i></div>'
        f'<table class="costs"><tbody>{body}</tbody></table>'
    )
