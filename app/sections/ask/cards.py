"""The answer cards, the status line and the prompt's length, as HTML from templates that escape all values."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from app import text
from app.sections.ask.differences import Piece, differences
from app.server.host import ModelHost
from app.server.run import Run
from app.server.task import Lane
from app.templates import render
from judgeq.errors import InputError
from judgeq.look.format import duration, size, visible
from judgeq.methods import METHODS, title_of
from judgeq.retention.glow import numbered_words
from judgeq.retention.text import shown_positions

MOST_LOST = 12
"""Words that a card names."""
MOST_NEW = 6
"""Tokens of each answer that an update of the page can show one after the other."""


def percent(share: float) -> str:
    """A share as shown: `11 %`, `2.4 %`."""
    value = 100 * share
    return f"{value:.{0 if value >= 9.95 or value == 0 else 1}f} %"


def empty_cards(methods: tuple[str, ...]) -> str:
    """Cards that wait for a question."""
    return _cards([Lane(method) for method in methods], None)


def run_cards(run: Run) -> str:
    """Cards of a run in its current state."""
    return _cards(run.lanes, run)


def loading_status(line: str, share: float | None) -> str:
    """The status line while the model is loaded."""
    return busy_status(text.LOADING.format(line=line.rstrip(" .…")), share)


def idle_status(model: str) -> str:
    """The status line of a page that waits for a question."""
    return ready_status(text.READY.format(model=model))


def error_status(message: str) -> str:
    """The status line after an error."""
    return _status("failed", message)


def busy_status(line: str, share: float | None = None) -> str:
    """The status line of work in progress; `share` of it is done, None = unknown."""
    return _status("busy", line, share)


def ready_status(line: str, notices: Sequence[str] = ()) -> str:
    """The status line of finished work."""
    return _status("ready", line, notices=notices)


def begun_status(run: Run) -> str:
    """The line of a run of any kind that has not measured anything yet; empty for later phases."""
    match run.phase:
        case "loading":
            return loading_status(*run.host.progress)
        case "waiting":
            return busy_status(text.WAITING.format(place=run.place))
        case "reading":
            done, layers = run.layers
            line = text.READING.format(what=run.what, done=done, layers=layers or "…")
            return busy_status(line, done / layers if layers else 0.0)
    return ""


def run_status(run: Run) -> str:
    """The status line of a run: what it does, its progress, and its notices once it is finished."""
    if said := begun_status(run):
        return said
    count = len(run.lanes)
    match run.phase:
        case "writing":
            line = text.WRITING.format(count=f"{count} answers") if count > 1 else text.WRITING_ONE
            return busy_status(line, 1.0)
        case "stopped":
            return ready_status(text.STOPPED)
        case "failed":
            return error_status(text.FAILED)
    ready = max((lane.answer.timing.prefill_s for lane in run.lanes if lane.answer), default=run.prefill_s)
    total = ready + sum(sum(lane.seconds) for lane in run.lanes)
    words = text.DONE_AGAIN if run.again else text.DONE
    precision = next((lane.answer.precision for lane in run.lanes if lane.answer), "")
    said = words.format(prefill=duration(run.prefill_s), total=duration(total), precision=precision)
    return ready_status(said, run.notices)


def length_line(host: ModelHost, document: str, question: str, truncate: bool, answer: float) -> str:
    """A line such as `1,234 of 8,192 tokens`, and what happens to a document beyond that, as HTML.

    Args:
        answer: tokens to leave free for it.
    """
    try:
        tokens = host.count_all(document or "", question or "")
    except InputError as error:
        return _length(str(error), over=True)
    if not tokens or host.ready is None:
        return _length(text.LENGTH_UNKNOWN if host.ready is None else text.LENGTH_EMPTY)
    limit = host.ready.geometry.max_positions
    line = text.LENGTH_OF.format(tokens=tokens, limit=limit)
    over = tokens + (int(answer) if math.isfinite(answer) else 0) - limit
    if over <= 0:
        return _length(line)
    return _length(f"{line}: {(text.LENGTH_CUT if truncate else text.LENGTH_OVER).format(over=over)}", over=True)


def reading_line() -> str:
    """The length's line while a file is read."""
    return _length(text.READING_FILE)


def _length(line: str, over: bool = False) -> str:
    return render("ask/length.j2", line=line, over=over)


def _status(kind: str, line: str, share: float | None = None, notices: Sequence[str] = ()) -> str:
    done = None if share is None else round(100 * min(max(share, 0.0), 1.0))
    return render("ask/status.j2", kind=kind, line=line, share=done, notices=notices)


def _cards(lanes: Sequence[Lane], run: Run | None) -> str:
    live, steps = _replay(run)
    return render(
        "ask/cards.j2",
        cards=[_card(lane, run) for lane in lanes],
        live=live,
        length=_document_length(run) if live or steps else 0,
        steps=steps,
        by=_lit_by(run),
        busy=run is not None and not run.finished.is_set(),
        computed=run.computed if run and run.phase == "stored" else "",
        question=run.task.question if run else None,
        prefix=run.task.answer_prefix if run else "",
        next=next_step(run) if run else "",
        earlier=run.earlier if run else (),
        title_of=title_of,
    )


def next_step(run: Run) -> str:
    """What to try after these answers, in one sentence; empty while they are written, or with nothing to compare."""
    ended = [lane for lane in run.lanes if lane.finish in ("end", "stop", "length") and lane.text.strip()]
    full = next((lane for lane in ended if lane.method == "full"), None)
    others = [lane for lane in ended if lane is not full]
    if run.gone or not run.finished.is_set() or full is None or not others:
        return ""
    rows, expected = run.task.budget, run.task.expected.lower()
    if expected and expected not in full.text.lower():
        return text.NEXT_SHORTER if run.task.answer_prefix else text.NEXT_BEGIN
    wanted = expected or " ".join(full.text.split()).lower()
    lost = [lane for lane in others if wanted not in " ".join(lane.text.split()).lower()]
    if lost and expected:
        names = text.join([title_of(lane.method) for lane in lost])
        return text.NEXT_LOST.format(names=names, expected=run.task.expected, rows=f"{2 * int(rows):,}")
    if lost:
        return text.NEXT_DIFFERS
    return text.NEXT_FEWER.format(rows=f"{max(1, int(rows) // 2):,}") if rows >= 2 else ""


def _state(lane: Lane, run: Run | None) -> str:
    if run is None:
        return "idle"
    if lane.finish:
        return "stopped" if lane.finish == "cancelled" else "done"
    if run.finished.is_set():
        return "stopped"
    return "writing" if run.phase == "writing" else "waiting"


def _card(lane: Lane, run: Run | None) -> dict[str, Any]:
    """What the template shows of one method."""
    state = _state(lane, run)
    cut = {
        "length": text.CUT.format(tokens=run.task.max_new_tokens if run else 0),
        "cancelled": text.CANCELLED,
    }.get(lane.finish or "", "")
    shown = lane.text.strip()
    pieces: list[Piece] = [(shown, "same")] if shown else []
    remarks = [cut] if cut and state not in ("writing", "waiting") else []
    reference = _reference(lane, run)
    if state == "done" and not shown:
        remarks = [text.SILENT]
    elif state == "done" and reference is not None:
        compared = differences(reference, shown)
        same = compared is not None and all(kind == "same" for _, kind in compared)
        remarks.append(text.OTHER if compared is None else text.SAME if same else text.CHANGED)
        pieces = pieces if compared is None or same else compared
    share, costs = _costs(lane, run)
    return {
        "method": lane.method,
        "title": title_of(lane.method),
        "hint": METHODS[lane.method].summary if lane.method in METHODS else "",
        "state": state,
        "verdict": _verdict(lane, state, run),
        "pieces": _words(pieces, numbered=bool(lane.steps)),
        "joined": lane.text[:1].strip() != "",
        "leaning": run.lit[lane.method][1] if run and lane.method in run.lit else lane.leaning,
        "cut": bool(cut),
        "remarks": remarks,
        "lost": [visible(word) for word in lane.lost_words[:MOST_LOST]],
        "more_lost": max(0, len(lane.lost_words) - MOST_LOST),
        "share": share,
        "costs": costs,
    }


def _words(pieces: Sequence[Piece], numbered: bool) -> list[tuple[list[tuple[str, int]], str, str]]:
    """Pieces as words with their numbers in the answer, the white space after each piece, and its kind.

    White space has the number -1, as what is missing in the answer, or all of it where words are not numbered.
    """
    found, count = list[tuple[list[tuple[str, int]], str, str]](), 0
    for piece, kind in pieces:
        shown = piece.rstrip()
        words = [(shown, -1)]
        if numbered and kind != "missing":
            words = [(text, -1 if index < 0 else count + index) for text, index in numbered_words(shown)]
            count += sum(index >= 0 for _, index in words)
        found.append((words, piece[len(shown) :], kind))
    return found


def _replay(run: Run | None) -> tuple[str, str]:
    """What the page's script needs to light words: the last tokens of answers in progress, all of finished ones."""
    lanes = [lane for lane in run.lanes if lane.steps] if run else []
    if run is None or not lanes:
        return "", ""
    if run.finished.is_set():
        own = {lane.method: lane.steps for lane in lanes}
        return "", _compact(own | {method: steps for method, (steps, _) in run.lit.items()})
    last = {
        lane.method: [[at, *lane.steps[at]] for at in range(max(0, len(lane.steps) - MOST_NEW), len(lane.steps))]
        for lane in lanes
    }
    return _compact(last), ""


def _lit_by(run: Run | None) -> str:
    """Which layer or head lights words, where not all do."""
    if run is None or run.layer is None:
        return ""
    if not run.lit:
        return text.LIT_BY_ALL
    if run.head is not None:
        return text.LIT_BY_HEAD.format(head=run.head, layer=run.layer)
    without = text.STORED_HEADS if run.phase == "stored" else text.NO_HEADS
    return text.LIT_BY.format(layer=run.layer) + ("" if run.heads else f" {without}")


def _document_length(run: Run | None) -> int:
    """Of the document as it is shown, in the script's units."""
    found = next(iter(run.retention.values()), None) if run else None
    return 0 if found is None else int(shown_positions(found.document_text)[-1])


def _compact(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))


def _verdict(lane: Lane, state: str, run: Run | None) -> tuple[str, str] | None:
    """Whether a sample's known fact is in the answer: a CSS class, and a sign with words."""
    if run is None or not run.task.expected or state != "done":
        return None
    found = run.task.expected.lower() in lane.text.lower()
    kind, sign, words = ("found", "✓", text.FOUND) if found else ("missed", "✗", text.MISSED)
    return kind, f"{sign} {words.format(expected=run.task.expected)}"


def _reference(lane: Lane, run: Run | None) -> str | None:
    """The full cache's answer where it can be compared with; both were cut at the same length."""
    if run is None or lane.method == "full":
        return None
    full = next((each for each in run.lanes if each.method == "full"), None)
    return full.text if full is not None and full.finish in ("end", "stop", "length") else None


def _costs(lane: Lane, run: Run | None) -> tuple[float, list[tuple[str, str, str]]]:
    """The share of the full cache, and measured figures as (name, value, remark); a dash for what is not known yet."""
    rows = kv = text.PENDING
    of_rows = of_full = ""
    share = 0.0
    if run and run.prompt_tokens and run.full_kv_bytes and lane.rows is not None and lane.kv_bytes is not None:
        share = lane.kv_bytes / run.full_kv_bytes
        rows, of_rows = f"{lane.rows:,.0f}", text.OF_ROWS.format(tokens=run.prompt_tokens)
        kv, of_full = size(lane.kv_bytes), text.OF_FULL.format(share=percent(share)) if share < 1 else ""
    first = text.PENDING if lane.ttft_s is None else duration(lane.ttft_s)
    speed = text.PENDING if lane.tokens_per_s is None else f"{lane.tokens_per_s:.1f} tokens/s"
    lost = []
    if lane.lost is not None and lane.lost.share is not None:
        noun = "token" if lane.lost.tokens == 1 else "tokens"
        lost = [(text.LOST, percent(lane.lost.share), text.OF_TOKENS.format(tokens=lane.lost.tokens, noun=noun))]
    return min(share, 1.0), [
        (text.ROWS_KEPT, rows, of_rows),
        (text.KV_CACHE, kv, of_full),
        *lost,
        (text.FIRST_TOKEN, first, ""),
        (text.SPEED, speed, ""),
    ]
