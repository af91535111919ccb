"""The answer cards and the status line as HTML. Every text that comes in is untrusted and escaped here."""

from __future__ import annotations

import html

from app import text
from app.run import Lane, Run

UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def size(number: int) -> str:
    """Bytes for people, three digits: `5.90 MB`."""
    for unit, factor in UNITS:
        if number >= factor:
            value = number / factor
            return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f} {unit}"
    return f"{number} B"


def percent(share: float) -> str:
    """A share for people: `11 %`, `2.4 %`."""
    value = 100 * share
    return f"{value:.{0 if value >= 9.95 or value == 0 else 1}f} %"


def duration(seconds: float) -> str:
    """`0.42 s`, `5.3 s`, `1 min 12 s`."""
    if seconds >= 90:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{seconds:.{1 if seconds >= 1 else 2}f} s"


def empty_cards(methods: tuple[str, ...]) -> str:
    """Cards that wait for a question."""
    return _grid([_card(Lane(method), None, "idle", "") for method in methods])


def run_cards(run: Run) -> str:
    """Cards of a run as far as it is."""
    busy = not run.finished.is_set()
    return _grid([_card(lane, run, _state(lane, run, busy), run.task.expected) for lane in run.lanes], busy)


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
        return _status("busy", text.WAITING)
    if run.phase == "reading":
        return _status(
            "busy", text.READING.format(done=done, layers=layers or "…"), done / layers if layers else 0.0
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
    line = text.DONE.format(prefill=duration(run.prefill_s), total=duration(total))
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
    if lane.finish == "cancelled" or (not busy and lane.answer is None):
        return "stopped"
    if lane.finish:
        return "done"
    return "writing" if run.phase == "writing" else "waiting"


def _grid(cards: list[str], busy: bool = False) -> str:
    return f'<div class="cards" aria-busy="{str(busy).lower()}">{"".join(cards)}</div>'


def _card(lane: Lane, run: Run | None, state: str, expected: str) -> str:
    title, hint = text.METHODS.get(lane.method, (lane.method, ""))
    return (
        f'<article class="card {state} {html.escape(lane.method)}" aria-label="{html.escape(title)}">'
        f"<header><h2>{html.escape(title)}</h2>{_verdict(lane, state, expected)}</header>"
        f'<p class="hint">{html.escape(hint)}</p>'
        f'<div class="answer" tabindex="0" role="region" aria-label="Answer of {html.escape(title)}">'
        f"{_answer(lane, state, run.task.max_new_tokens if run else 0)}</div>{_costs(lane, run)}</article>"
    )


def _verdict(lane: Lane, state: str, expected: str) -> str:
    """Whether a sample's known fact is in the answer; a word and a sign, not only a colour."""
    if not expected or state != "done":
        return ""
    found = expected.lower() in lane.text.lower()
    kind, sign, words = ("found", "✓", text.FOUND) if found else ("missed", "✗", text.MISSED)
    return f'<span class="verdict {kind}">{sign} {html.escape(words.format(expected=expected))}</span>'


def _answer(lane: Lane, state: str, longest: int) -> str:
    shown = html.escape(lane.text.strip())
    if state == "writing":
        return f'<p>{shown}<i class="caret"></i></p>'
    if state == "waiting":
        return '<p class="ghost"><i></i><i></i><i></i></p>'
    if state == "done" and not shown:
        return f'<p class="remark">{text.SILENT}</p>'
    remark = {"length": text.CUT.format(tokens=longest), "cancelled": text.CANCELLED}.get(
        lane.finish or "", ""
    )
    return f"<p>{shown}{' …' if remark and shown else ''}</p>" + (
        f'<p class="remark">{remark}</p>' if remark else ""
    )


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
