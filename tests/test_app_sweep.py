"""The page's sweep and pins without a browser, on a tiny random model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest
import torch

from app import text
from app.sections.ask import callbacks, cards
from app.sections.pins.view import add_piece
from app.sections.sweep import curves
from app.sections.sweep.callbacks import SweepCallbacks
from app.server.host import ModelHost
from app.server.pins import MOST_PIECES, spans_of
from app.server.sweep_run import SweepRun
from judgeq.errors import InputError
from judgeq.methods import METHODS
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.sweeping import BUDGETS, SweepPoint
from tests.test_look import contrast
from tests.waiting import PATIENCE_S, until

DOCUMENT = "The lighthouse was built in 1874 and is\n31 metres tall. Its keeper is called Aldous. " * 3
QUESTION = "How tall is the lighthouse?"


@pytest.fixture(scope="module")
def host(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> ModelHost:
    tokens = SoftTokens.initialise(lm, torch.arange(10, 18))
    folder = tokens.save_pretrained(tmp_path_factory.mktemp("tokens"))
    made = ModelHost(lm.name, folder, load=lambda name, progress: lm)
    made.model()
    return made


@pytest.fixture
def section(host: ModelHost) -> SweepCallbacks:
    return SweepCallbacks(host)


def begin(section: SweepCallbacks, **changes: Any) -> SweepRun:
    values: dict[str, Any] = {
        "document": DOCUMENT,
        "question": QUESTION,
        "question_first": False,
        "max_new_tokens": 6,
        "truncate": False,
        "methods": ["snapkv", "judgeq"],
        "watched": "keeper is called Aldous",
    }
    return section.begin(**{**values, **changes})[0]


@pytest.fixture(autouse=True)
def _no_run_is_left_behind() -> Iterator[None]:
    yield
    until(lambda: not any(thread.name == "judgeq-run" for thread in threading.enumerate()))


# A sweep


def test_a_sweep_draws_every_point_and_says_what_it_found(section: SweepCallbacks) -> None:
    run = begin(section)
    views = list(section.follow(run))
    assert run.phase == "done"
    assert [(point.method, point.budget) for point in run.points] == [
        (method, budget) for budget in BUDGETS for method in ("judgeq", "snapkv")
    ]
    status = views[-1][0]
    assert "status ready" in status
    assert text.SWEEP_VERDICT in status
    last = [view for view in views if not isinstance(view[3], dict)][-1]
    figure, table = last[2], last[3]
    assert [len(trace.x) for trace in figure.data] == [len(BUDGETS)] * 4, "two methods, two panels"
    assert figure.data[0].y[-1] == figure.data[1].y[-1] == 100
    assert table.count("<tr>") == len(BUDGETS) + 1
    assert "100 % <small>" in table


def test_methods_differ_by_dash_and_marker_too() -> None:
    looks = [cls.look for cls in METHODS.values() if cls.look]
    assert len({(look.dash, look.symbol) for look in looks}) == len(METHODS)
    for look in looks:
        for page in ("#fffefb", "#16181d"):
            assert contrast(look.color, page) >= 3, (look.color, page)


def point(method: str, rows: int, agreement: float, **changes: Any) -> SweepPoint:
    values = {"survival": None, "answer": "It is 31.", "prompt_tokens": 200, "share": rows / 200, **changes}
    return SweepPoint(method, rows / 200, rows, agreement=agreement, **values)


def test_the_verdict_is_the_smallest_size_from_which_on_everything_agrees() -> None:
    found = [
        point("judgeq", 2, 1.0),
        point("judgeq", 20, 0.9),
        point("judgeq", 40, 1.0),
        point("judgeq", 200, 1.0),
        point("snapkv", 2, 0.2),
        point("snapkv", 40, 0.5),
    ]
    assert curves.verdict(found) == (f"{text.SWEEP_VERDICT} Judge Q needs 20 % of the rows; SnapKV never writes it.")


def test_without_words_to_watch_there_is_one_panel(section: SweepCallbacks) -> None:
    figure = curves.figure([point("judgeq", 2, 0.5), point("snapkv", 2, 0.5)])
    assert len(figure.data) == 2
    assert text.SWEEP_SURVIVAL not in str(figure.layout.annotations)
    assert begin(section, watched=" ").task.span is None


def test_one_row_of_a_long_prompt_lies_inside_the_axis() -> None:
    tiny = point("judgeq", 1, 0.5, share=0.002)
    low, high = curves.figure([tiny]).layout.xaxis.range
    assert low < -0.7 < 2 < high


def test_what_a_model_writes_is_never_html() -> None:
    shown = curves.table([point("<b>x</b>", 2, 0.5, answer="<script>alert(1)</script>")])
    assert "<script" not in shown
    assert "<b>x" not in shown
    assert "&lt;script&gt;" in shown
    assert "<b>" not in str(curves.figure([point("<b>x</b>", 2, 0.5)]).data[0].name)


def test_cancel_stops_the_work_itself(section: SweepCallbacks) -> None:
    run = begin(section)
    seen: list[int] = []
    real = run._on_layer

    def on_layer(done: int, layers: int) -> None:
        seen.append(done)
        if run.points:
            run.cancel()
        real(done, layers)

    run._on_layer = on_layer  # type: ignore[method-assign]
    list(section.follow(run))
    assert run.phase == "stopped"
    assert 0 < len(run.points) <= 2, "at once, in the next pass"
    assert f"Cancelled after {len(run.points)} of {2 * len(BUDGETS)}" in section.stop(run)


def test_cancel_ends_a_sweep_that_waits_and_leaving_the_page_does_too(section: SweepCallbacks) -> None:
    run = begin(section)
    with section.host.turn():
        views = section.follow(run)
        next(views)
        until(lambda: run.phase == "waiting")
        assert text.WAITING.format(place=1) in curves.status_of(run)
        views.close()
        assert run.finished.wait(PATIENCE_S)
    assert run.phase == "stopped"
    assert section.stop(None) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"document": " "}, "document is empty"),
        ({"question": ""}, "question is empty"),
        ({"methods": []}, "tick at least one to measure"),
        ({"watched": "Ebenezer"}, "“Ebenezer” does not occur"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(
    section: SweepCallbacks, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(gr.Error, match=message):
        begin(section, **changes)


def test_a_document_that_is_too_long_is_refused_while_it_is_read(section: SweepCallbacks) -> None:
    run = begin(section, document=DOCUMENT * 40, watched="")
    with pytest.raises(gr.Error, match="allow cutting its middle"):
        list(section.follow(run))
    assert "status failed" in curves.status_of(run)


def test_a_piece_is_found_wherever_it_stands_across_line_breaks_too() -> None:
    (first, *others) = spans_of(DOCUMENT, "  and is 31   metres\n\n")
    assert DOCUMENT[slice(*first)] == "and is\n31 metres"
    assert len(others) == 2
    assert len(spans_of(DOCUMENT, "Aldous\nkeeper")) == 6
    assert spans_of(DOCUMENT, "") == spans_of(DOCUMENT, " \n ") == ()
    assert spans_of("a.c abc", "a.c") == ((0, 3),), "no pattern"


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ("aldous", "“aldous” does not occur"),
        ("Aldous\n" + "x" * 400, f"“{'x' * 60}…” does not occur"),
        ("Aldous\n" * (MOST_PIECES + 1), f"51 pieces are too many: give at most {MOST_PIECES}"),
    ],
)
def test_pieces_that_cannot_be_found_are_refused(pieces: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        spans_of(DOCUMENT, pieces)


def test_a_piece_that_stands_everywhere_is_refused() -> None:
    with pytest.raises(InputError, match="“e” occurs more than 1,000 times"):
        spans_of("e" * 5000, "e")


def ask(host: ModelHost, **changes: Any) -> Any:
    page = callbacks.Callbacks(host)
    values = {"question_first": False, "max_new_tokens": 4, "truncate": False, "rows": 60, **changes}
    return page.begin(DOCUMENT, QUESTION, methods=["full", "judgeq", "snapkv"], **values)[0]


def test_a_run_keeps_what_must_stay_and_drops_what_must_go(host: ModelHost) -> None:
    run = ask(host, pinned="keeper is called Aldous", dropped="built in 1874")
    run.start()
    assert run.finished.wait(PATIENCE_S)
    full, *others = run.lanes
    assert full.retention.share_kept().min() == 1.0
    for lane in others:
        kept = lane.retention.share_kept()
        for first, last in spans_of(DOCUMENT, "keeper is called Aldous"):
            at = lane.retention.tokens_at(first, last)
            assert (kept[at.start : at.stop] == 1).all()
        for first, last in spans_of(DOCUMENT, "built in 1874"):
            at = lane.retention.tokens_at(first, last)
            assert (kept[at.start : at.stop] == 0).all()
    status = cards.run_status(run)
    assert "are pinned and stay" in status
    assert "are dropped and go" in status


def test_spans_count_in_the_document_without_the_blanks_at_its_ends(host: ModelHost, section: SweepCallbacks) -> None:
    page, blanks = callbacks.Callbacks(host), f"\n\n {DOCUMENT}\n"
    values = {"question_first": False, "max_new_tokens": 4, "truncate": False, "rows": 60}
    task = page.begin(blanks, QUESTION, methods=["snapkv"], pinned="Aldous", dropped="1874", **values)[0].task
    assert {task.document[slice(*span)] for span in task.pinned} == {"Aldous"}
    assert {task.document[slice(*span)] for span in task.dropped} == {"1874"}
    assert task.document == begin(section, document=blanks).task.document == DOCUMENT.strip()


def test_pins_that_mean_nothing_are_refused_before_and_those_that_do_not_fit_while_it_runs(
    host: ModelHost,
) -> None:
    for changes in ({"pinned": "Ebenezer"}, {"dropped": "Ebenezer"}):
        with pytest.raises(gr.Error, match="does not occur"):
            ask(host, **changes)
    page = callbacks.Callbacks(host)
    with pytest.raises(gr.Error, match=r"give at least \d+ rows, or pin less"):
        list(page.follow(ask(host, pinned="keeper is called Aldous", rows=2)))
    with pytest.raises(gr.Error, match="overlap at “Aldous"):
        list(page.follow(ask(host, pinned="called Aldous", dropped="Aldous")))


def test_words_that_are_looked_at_become_a_line_of_what_must_stay_or_go() -> None:
    value, part = add_piece(" is 31\n metres ", "a\n\n")
    assert value == "a\nis 31 metres"
    assert part["open"] is True
    assert add_piece("a", "a")[0] == "a", "once"
    with pytest.raises(gr.Error, match="no words to find"):
        add_piece(" ", "a")
