"""The demo's logic without a browser, on a tiny random model."""

from __future__ import annotations

import gc
import gzip
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
import torch

from app import text
from app.endpoints import Endpoints
from app.sections.ask import callbacks as do
from app.sections.ask import cards
from app.sections.ask.differences import differences
from app.sections.kept.callbacks import FIELDS, search, show_document, show_figures
from app.sections.sweep.callbacks import SweepCallbacks
from app.sections.take_away import callbacks as takeaway
from app.sections.take_away.view import make_file
from app.server import stored_answers
from app.server.host import ModelHost
from app.server.limits import Limits
from app.server.live import lit
from app.server.memory import MemoryLimit
from app.server.run import Run, result
from app.server.samples import expected_answer, samples
from app.server.task import Lane, Task
from app.style.stylesheet import CSS
from app.style.theme import theme
from judgeq._assets import assets_path
from judgeq.documents.document import Document
from judgeq.errors import JudgeqError
from judgeq.look.format import duration, size
from judgeq.models.language_model import LanguageModel
from judgeq.retention.glow import Lights
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.waiting import PATIENCE_S, until

DOCUMENT = "The lighthouse was built in 1874 and is 31 metres tall. Its keeper is called Aldous. " * 4
QUESTION = "How tall is the lighthouse?"


@pytest.fixture(scope="module")
def host(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> ModelHost:
    tokens = SoftTokens.initialise(lm, torch.arange(10, 18))
    folder = tokens.save_pretrained(tmp_path_factory.mktemp("tokens"))
    patient = Limits(answer=4000)
    made = ModelHost(lm.name, folder, load=lambda name, progress: lm, limits=patient)
    made.model()
    return made


@pytest.fixture
def page(host: ModelHost) -> do.Callbacks:
    return do.Callbacks(host)


def begin(page: do.Callbacks, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "document": DOCUMENT,
        "question": QUESTION,
        "rows": 24,
        "methods": ["snapkv", "full", "judgeq"],
        "question_first": False,
        "max_new_tokens": 6,
        "truncate": False,
    }
    return page.begin(**{**values, **changes})[0]


def finished(run: Run) -> Run:
    run.start()
    assert run.finished.wait(PATIENCE_S)
    return run


# A run


def test_one_click_answers_with_every_method_and_measures_what_each_costs(page: do.Callbacks) -> None:
    run = finished(begin(page))
    assert run.phase == "done"
    assert [lane.method for lane in run.lanes] == ["full", "judgeq", "snapkv"], "in the page's own order"
    full, judge, snap = run.lanes
    assert full.rows == run.prompt_tokens
    assert judge.rows == snap.rows == 24
    assert full.kv_bytes == run.full_kv_bytes
    assert judge.kv_bytes * run.prompt_tokens == full.kv_bytes * 24
    for lane in run.lanes:
        assert lane.ttft_s > 0
        assert lane.text == lane.answer.text
        assert lane.retention.document_text == DOCUMENT.strip()


def test_the_oracles_second_look_counts_in_its_own_first_token_and_in_the_total(page: do.Callbacks) -> None:
    run = finished(begin(page, methods=["full", "oracle"]))
    full, oracle = run.lanes
    for lane in run.lanes:
        assert lane.ttft_s == lane.answer.timing.ttft_s
        assert lane.tokens_per_s == lane.answer.timing.decode_tokens_per_s
    looked_again = oracle.answer.timing.prefill_s - full.answer.timing.prefill_s
    assert looked_again > 0
    assert oracle.ttft_s > run.prefill_s + looked_again
    oracle.answer = replace(oracle.answer, timing=replace(oracle.answer.timing, prefill_s=7000.0))
    assert f"Read once in {duration(run.prefill_s)}, answered in 116 min" in cards.run_status(run)


def test_the_page_follows_a_run_and_draws_the_maps_once(page: do.Callbacks) -> None:
    run = begin(page)
    views = list(page.follow(run))
    status, shown, *map_part = views[-1]
    assert "Read once in" in status
    assert shown.count("<article") == 3
    drawn = [view for view in views if isinstance(view[6], str)]
    assert len(drawn) == 1
    assert "jq-map" in drawn[0][6]
    assert drawn[0][7] is not None
    assert len(map_part) == FIELDS


def test_the_next_question_finds_the_document_still_read(page: do.Callbacks) -> None:
    first = finished(begin(page))
    read = first.layers
    assert (first.what, first.again) == ("question", False), "the document, then the question"
    second = finished(begin(page, question="Who keeps it?", previous=first))
    assert second.again
    assert second.layers == read
    assert [(asked.question, [method for method, _ in asked.answers]) for asked in second.earlier] == [
        (QUESTION, ["full", "judgeq", "snapkv"])
    ]
    alone = finished(begin(page, question="Who keeps it?"))
    assert [lane.text for lane in second.lanes] == [lane.text for lane in alone.lanes]
    assert "rows were reused" in cards.run_status(second)
    assert "Read once in" in cards.run_status(alone)
    shown = cards.run_cards(second)
    assert f"<summary>{QUESTION}" in shown
    same = begin(page, previous=second)
    assert [asked.question for asked in same.earlier] == [QUESTION, "Who keeps it?"]
    assert [asked.question for asked in begin(page, previous=finished(same)).earlier] == [
        "Who keeps it?",
        QUESTION,
    ]
    other = begin(page, document="Another text.", previous=second)
    assert other.earlier == ()
    assert other.document is None


def test_the_question_first_reads_everything_and_keeps_nothing(page: do.Callbacks) -> None:
    run = finished(begin(page, question_first=True))
    assert run.document is None
    assert run.what == "prompt"


def test_a_program_leaves_no_document_behind(page: do.Callbacks) -> None:
    list(Endpoints(page.host).ask(DOCUMENT, QUESTION, "snapkv", "10%", max_new_tokens=2))
    gc.collect()
    assert [each.text for each in page.host.documents.held] == []


def test_the_document_asked_least_recently_gives_way(lm: LanguageModel) -> None:
    documents = [Document(lm, DOCUMENT + str(number)).read() for number in range(3)]
    size = documents[0].kv_bytes
    shelf = MemoryLimit(2 * size + size // 2, lambda document: document.kv_bytes, Document.forget)
    for number in (0, 1, 0, 2):
        shelf.use(documents[number])
    assert [each.kv_bytes > 0 for each in documents] == [True, False, True]
    del documents[0]
    gc.collect()
    assert shelf.held == [documents[0], documents[1]], "what nobody needs is gone"
    small = MemoryLimit(size // 2, lambda document: document.kv_bytes, Document.forget)
    small.use(documents[1])
    assert documents[1].kv_bytes == 0, "too large for any shelf: the next question reads it again"


# What pages hold together


@pytest.fixture
def small(lm: LanguageModel) -> do.Callbacks:
    """A page whose host has room for about two runs."""
    host = ModelHost(lm.name, load=lambda name, progress: lm)
    page = do.Callbacks(host)
    host.runs.most_bytes = int(2.5 * shown_run(page).nbytes)
    return page


def shown_run(page: do.Callbacks, **changes: Any) -> Run:
    """A run that a page has followed to its end."""
    run = begin(page, methods=["full", "snapkv"], **changes)
    for _ in page.follow(run):
        pass
    return run


def test_what_a_run_holds_is_measured(small: do.Callbacks) -> None:
    run = shown_run(small)
    arrays = [head for found in run.retention.values() for layer in found.kept for head in layer]
    arrays += [found.scores for found in run.retention.values() if found.scores is not None]
    assert sum(each.nbytes for each in arrays) + len(run.task.document) < run.nbytes
    assert shown_run(small, document=DOCUMENT * 4).nbytes > 3 * run.nbytes


def test_one_layer_alone_lights_words_where_each_is_recorded(
    small: do.Callbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shown_run(small)
    answer = run.lanes[1].answer
    assert answer is not None
    assert answer.attended is not None
    for head, by in ((-1, "layer 2 alone"), (1, "query head 1 of layer 2 alone")):
        own = answer.attended.of_layer(2, None if head < 0 else head)
        expected = lit(Lights(run.retention["snapkv"]), own)
        shown, picker = do.light_layer(run, 2, head)
        assert run.lit["snapkv"] == expected != (run.lanes[1].steps, run.lanes[1].leaning)
        assert f"Lit by {by}" in shown
        assert f"&#34;snapkv&#34;:{json.dumps(expected[0], separators=(',', ':'))}" in shown
        assert (picker["visible"], picker["value"], len(picker["choices"])) == (True, head, 5)
    assert do.light_layer(run, 2, 1) == (gr.skip(), gr.skip()), "nothing new"
    forged: Any = "2"
    assert "Lit by layer 2 alone" in do.light_layer(run, 2, forged)[0]
    cards_of_all, picker = do.light_layer(run, forged, 1)
    assert "<b>Lit by" not in cards_of_all
    assert picker["visible"] is False
    monkeypatch.setattr("app.server.live.HEADS_BYTES", 0)
    assert "too long to record each head" in do.light_layer(shown_run(small), 2, 1)[0]
    monkeypatch.setattr("app.server.live.LAYERS_BYTES", 0)
    assert "too long to record each one" in do.light_layer(shown_run(small), 2, 1)[0]


def words(html: str) -> list[str]:
    """What a person reads on the cards, without the replay."""
    return re.sub(r"<[^>]+>", "", html.partition('<div class="jq-replay"')[0]).split()


def test_the_run_looked_at_least_recently_gives_way_and_its_visitor_is_told(small: do.Callbacks) -> None:
    first, second = shown_run(small), shown_run(small)
    answers = words(cards.run_cards(second))
    show_document(first, "snapkv", "", "word", -1, -1)
    third = shown_run(small)
    assert [run.gone for run in (first, second, third)] == [False, True, False]
    assert second.nbytes < 500
    assert second.document is None
    for look in (
        lambda: show_document(second, "snapkv", "", "word", -1, -1),
        lambda: show_figures(second, "snapkv", "kept"),
        lambda: search(second, "lighthouse"),
        lambda: make_file(second, "page"),
        lambda: next(small.follow(second)),
    ):
        with pytest.raises(gr.Error, match="deleted to make room for other visitors: ask again"):
            look()
    assert words(cards.run_cards(second)) == answers, "the words stay, and light nothing"
    assert "jq-replay" not in cards.run_cards(second)
    again = shown_run(small, previous=second)
    assert not again.gone
    assert again.task.document


def test_the_last_run_stays_however_large_and_one_at_work_too(small: do.Callbacks) -> None:
    small.host.runs.most_bytes = 10
    with small.host.turn():
        waits = begin(small)
        waits.start()
        last = begin(small)
        assert not waits.gone
        last.look()
        assert not last.gone
        waits.stop()
    last.look()
    assert waits.gone


def test_documents_without_a_question_are_bounded_too(small: do.Callbacks) -> None:
    never = [begin(small, document=DOCUMENT * 500) for _ in range(6)]
    assert sum(run.nbytes for run in never) <= small.host.runs.most_bytes + never[-1].nbytes
    with pytest.raises(gr.Error, match="make room"):
        next(small.follow(never[0]))
    sweep = SweepCallbacks(small.host)
    measured = [sweep.begin(DOCUMENT * 500, QUESTION, False, 4, False, ["snapkv"], "")[0] for _ in range(6)]
    assert measured[0].task.document == ""
    with pytest.raises(gr.Error, match="make room"):
        next(sweep.follow(measured[0]))


def test_stored_answers_take_no_room(host: ModelHost) -> None:
    run = Run(Task(DOCUMENT, QUESTION), host)
    run.phase = "stored"
    assert run.nbytes == 0


def test_a_further_question_takes_the_place_of_the_first() -> None:
    assert do.take_over("Who keeps it?") == ("Who keeps it?", "")
    with pytest.raises(gr.Error, match="question is empty"):
        do.take_over("  ")


def test_words_are_compared_with_the_full_caches_answer() -> None:
    assert differences("It is 31 metres tall.", "it is 31 Metres  tall.") == [("it is 31 Metres  tall.", "same")]
    assert differences("It is 31 metres tall.", "It is about 13 metres tall.") == [
        ("It is ", "same"),
        ("31 ", "missing"),
        ("about 13 ", "added"),
        ("metres tall.", "same"),
    ]
    assert differences("It is 31 metres tall.", "Nobody knows who built this") is None
    assert differences("It is tall.", "It is tall. <b>") == [("It is tall. ", "same"), ("<b>", "added")]


def test_differences_are_shown_when_both_answers_are_written() -> None:
    run = Run(Task("d", "q", methods=()), ModelHost("m"))
    run.lanes = [
        Lane("full", text="It is 31 tall.", finish="end"),
        Lane("snapkv", text="It is <b> tall.", finish="end"),
    ]
    run.finished.set()
    shown = cards.run_cards(run)
    assert "It is <del>31</del> <ins>&lt;b&gt;</ins> tall." in shown
    assert text.CHANGED in shown
    run.lanes[1].text = "It is 31 tall."
    assert text.SAME in cards.run_cards(run)
    run.lanes[1].text = "Whatever else."
    assert text.OTHER in cards.run_cards(run)
    run.lanes[0].finish = None
    assert text.OTHER not in cards.run_cards(run), "the reference is still being written"


def test_a_page_opens_with_the_samples_stored_answers(page: do.Callbacks) -> None:
    other = page.open()
    assert other[0] is None, "this page has another model"
    assert 'class="card idle' in other[1]
    run, shown, *fields = do.Callbacks(ModelHost(stored_answers.MODEL)).open()
    document, figure = fields[4:6]
    assert run.task == stored_answers.stored_task()
    assert f"finds {run.task.expected}" in shown
    assert run.computed in shown
    assert "Judge Q keeps" in document
    assert len(figure.data[0]["z"]) == 30
    assert run.so_far() == (), "nobody asked that"
    assert do.Callbacks(ModelHost(stored_answers.MODEL, "other/tokens")).open()[0] is None
    again = stored_answers.store(run)
    assert json.loads(gzip.decompress(again))["lanes"] == stored_answers._stored_values()["lanes"]


def test_leaving_the_page_stops_the_run(page: do.Callbacks) -> None:
    run = begin(page, max_new_tokens=256)
    with page.host.turn():
        views = page.follow(run)
        next(views)
        views.close()
    assert run.finished.wait(PATIENCE_S)
    assert run.phase == "stopped"


def test_stop_ends_a_run_that_waits_for_its_turn(page: do.Callbacks) -> None:
    run = begin(page)
    with page.host.turn():
        run.start()
        until(lambda: run.phase == "waiting")
        status, shown = page.stop(run)
    assert text.STOPPED in status
    assert 'class="card stopped' in shown
    with pytest.raises(JudgeqError, match="stopped"):
        result(run)


def test_stop_ends_a_run_while_it_reads_and_the_next_run_is_not_harmed(page: do.Callbacks) -> None:
    reference = [lane.text for lane in finished(begin(page)).lanes]
    run = begin(page)
    seen: list[int] = []
    real = run._on_layer

    def on_layer(done: int, layers: int) -> None:
        seen.append(done)
        run.cancel()
        real(done, layers)

    run._on_layer = on_layer  # type: ignore[method-assign]
    finished(run)
    assert run.phase == "stopped"
    assert seen == [1], "not one layer more"
    assert [lane.text for lane in finished(begin(page)).lanes] == reference


def test_stop_ends_a_run_while_it_writes_and_keeps_what_is_written(page: do.Callbacks) -> None:
    run = begin(page, max_new_tokens=3000).start()
    until(lambda: all(lane.seconds for lane in run.lanes) or run.finished.is_set())
    page.stop(run)
    assert run.phase == "stopped"
    assert all(0 < len(lane.seconds) < 3000 for lane in run.lanes)
    assert "cancelled" in {lane.finish for lane in run.lanes}
    assert set(run.retention) == {"full", "judgeq", "snapkv"}


def test_a_run_that_is_stopped_before_it_starts_never_starts(page: do.Callbacks) -> None:
    run = begin(page)
    run.stop()
    run.start()
    assert run.phase == "stopped"
    assert run.prompt_tokens is None


def test_two_runs_take_turns(page: do.Callbacks) -> None:
    runs = [begin(page).start() for _ in range(2)]
    for run in runs:
        assert run.finished.wait(PATIENCE_S)
        assert run.phase == "done"
    assert runs[0].lanes[0].text == runs[1].lanes[0].text


def test_a_bug_becomes_one_sentence_and_a_line_in_the_log(
    page: do.Callbacks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("judgeq.documents.document.run", lambda *_, **__: 1 / 0)
    run = begin(page)
    with pytest.raises(gr.Error, match="ZeroDivisionError"):
        list(page.follow(run))
    assert "a run failed" in caplog.text


def test_running_out_of_memory_says_what_to_do(page: do.Callbacks, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("full")

    monkeypatch.setattr("judgeq.documents.document.run", read)
    assert "shorten it" in str(finished(begin(page)).error)


# Input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"document": " \n"}, "document is empty"),
        ({"question": ""}, "question is empty"),
        ({"methods": []}, "No method"),
        ({"rows": None}, "budget is empty"),
        ({"rows": float("nan")}, "budget is empty"),
        ({"rows": float("inf")}, "budget is empty"),
        ({"rows": 0}, "at least 1"),
        ({"rows": -5}, "at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(page: do.Callbacks, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(gr.Error, match=message):
        begin(page, **changes)


def test_a_document_that_is_too_long_is_refused_or_cut_after_saying_so(page: do.Callbacks) -> None:
    long = DOCUMENT * 40
    with pytest.raises(gr.Error, match="allow cutting its middle"):
        list(page.follow(begin(page, document=long)))
    run = finished(begin(page, document=long, truncate=True))
    assert run.phase == "done"
    assert "cut out of its middle" in cards.run_status(run)


def test_a_budget_beyond_the_prompt_is_the_full_cache_and_says_so(page: do.Callbacks) -> None:
    run = finished(begin(page, rows=100_000))
    assert {lane.rows for lane in run.lanes} == {run.prompt_tokens}
    assert "this is the full cache" in cards.run_status(run)


def test_rows_and_share_are_two_sides_of_one_budget(page: do.Callbacks) -> None:
    tokens = page.host.count_tokens(DOCUMENT, QUESTION, False)
    line, share = page.count(DOCUMENT, QUESTION, False, tokens // 4)
    assert share == 25
    assert f"{tokens:,} tokens" in line
    rows, same = page.rows_for(DOCUMENT, QUESTION, False, 25)
    assert rows == round(tokens / 4)
    assert same.startswith("25 %")
    assert "nothing is evicted" in page.count(DOCUMENT, QUESTION, False, 10 * tokens)[0]
    assert page.count(DOCUMENT * 40, QUESTION, False, 10)[0] == text.NO_SHARE
    assert "at least 1" in page.count(DOCUMENT, QUESTION, False, 0)[0]


def test_the_budget_is_told_in_the_bytes_that_are_measured_then(page: do.Callbacks) -> None:
    run = finished(begin(page))
    full, judge, _ = run.lanes
    assert page.host.kept_bytes(run.prompt_tokens, 24) == judge.kv_bytes
    assert page.host.kept_bytes(run.prompt_tokens, 10**6) == full.kv_bytes
    assert size(judge.kv_bytes) in page.count(DOCUMENT, QUESTION, False, 24)[0]


# The model


def test_a_model_that_cannot_be_loaded_says_why_and_can_be_tried_again(lm: LanguageModel) -> None:
    tries: list[int] = []

    def load(name: str, progress: Any) -> LanguageModel:
        tries.append(1)
        progress("unpacking", 0.5)
        if len(tries) == 1:
            raise JudgeqError("no connection: try again")
        return lm

    host = ModelHost("some-model", load=load)
    page = do.Callbacks(host)
    assert "no connection" in list(page.watch_loading())[-1]
    assert "some-model is ready" in list(page.watch_loading())[-1]
    assert len(tries) == 2


def test_loading_shows_how_far_it_is_and_can_be_given_up(lm: LanguageModel) -> None:
    gate = threading.Event()

    def load(name: str, progress: Any) -> LanguageModel:
        progress("unpacking", 0.5)
        gate.wait(PATIENCE_S)
        return lm

    page = do.Callbacks(ModelHost("some-model", load=load))
    first = next(page.watch_loading())
    until(lambda: page.host.progress[1] == 0.5)
    run = begin(page).start()
    until(lambda: "unpacking" in cards.run_status(run))
    run.stop()
    assert run.phase == "stopped"
    gate.set()
    assert "status busy" in first


# What is shown


def test_what_a_model_writes_is_never_html() -> None:
    lane = Lane("<b>x</b>", text="<script>alert(1)</script>")
    run = Run(Task("d", "q", methods=(), expected="<i>"), ModelHost("m"))
    run.lanes, run.phase = [lane], "writing"
    lane.finish = "end"
    run.finished.set()
    shown = cards.run_cards(run)
    assert "<script" not in shown
    assert "<b>x" not in shown
    assert "&lt;script&gt;" in shown
    assert "<img" not in cards.error_status("<img src=x>")


def test_a_sample_says_whether_its_fact_was_found() -> None:
    run = Run(Task("d", "q", methods=(), expected="4719"), ModelHost("m"))
    run.lanes = [
        Lane("full", text="It is 4719.", finish="end"),
        Lane("snapkv", text="It is 47.", finish="end"),
    ]
    shown = cards.run_cards(run)
    assert "✓ finds 4719" in shown
    assert "✗ misses 4719" in shown


def test_figures_read_like_figures() -> None:
    assert [size(n) for n in (512, 5_898_240, 51_609_600, 2.5e9)] == [
        "512 B",
        "5.90 MB",
        "51.6 MB",
        "2.50 GB",
    ]
    assert [cards.percent(share) for share in (1, 0.1143, 0.024, 0)] == ["100 %", "11 %", "2.4 %", "0 %"]
    assert [duration(s) for s in (0.423, 5.31, 125, 13188)] == [
        "0.42 s",
        "5.3 s",
        "2 min 5 s",
        "3 h 39 min",
    ]


# Answers that are begun


def test_all_methods_continue_the_same_beginning_and_every_form_shows_it(page: do.Callbacks) -> None:
    plain, run = finished(begin(page)), finished(begin(page, answer_prefix=" The <b>tower</b> is "))
    assert run.task.answer_prefix == "The <b>tower</b> is"
    assert run.prompt_tokens > plain.prompt_tokens
    shown = cards.run_cards(run)
    assert shown.count('<span class="begun">The &lt;b&gt;tower&lt;/b&gt; is</span>') == 3
    assert "begun" not in cards.run_cards(plain)
    assert all(answer.startswith("The <b>tower</b> is") for _, answer in run.so_far()[0].answers)
    comparison = takeaway.comparison_of(run)
    assert comparison.to_html().count("The &lt;b&gt;tower&lt;/b&gt; is") == 5, "each answer, the settings and the code"
    assert 'answer_prefix="The <b>tower</b> is"' in comparison.to_python()
    assert comparison.to_json()["settings"]["answer_prefix"] == run.task.answer_prefix


def test_another_question_proposes_another_beginning_unless_that_is_off(page: do.Callbacks) -> None:
    def begun(question: str, propose: bool, proposed_for: str | None) -> str:
        run = begin(page, question=question, answer_prefix="It is", propose=propose, proposed_for=proposed_for)
        return run.task.answer_prefix

    assert begun("Who signs?", True, QUESTION) == "The person who signs is", "asked before the page showed it"
    assert begun("Who signs?", True, "Who signs?") == "It is", "edited"
    assert begun("Who signs?", False, QUESTION) == "It is"
    assert do.propose_prefix("Who signs?", True, QUESTION, "") == ("The person who signs is", "Who signs?")
    assert do.propose_prefix("half \ud83d", True, QUESTION, "It is") == ("", "half \ud83d")
    for untouched in (("Who signs?", True, "Who signs?", ""), ("Who signs?", False, QUESTION, "It is")):
        assert do.propose_prefix(*untouched) == (gr.skip(), gr.skip())
    assert do.switch_proposals("Who signs?", False) == ("", "Who signs?")


@pytest.mark.parametrize(
    ("full", "other", "expected", "prefix", "said"),
    [
        ("It is 31.", "It is 31.", "31", "", "give 12 rows"),
        (
            "It is 31.",
            "It is 30.",
            "31",
            "",
            "select 31 in the document below to see where SnapKV lost it, or give 48",
        ),
        ("It is 30.", "It is 30.", "31", "", "begin the answer"),
        ("It is 30.", "It is 30.", "31", "It", "ask for one fact"),
        ("It  is 31.", "it is 31. And", "", "", "give 12 rows"),
        ("It is 31.", "It is not.", "", "", "select the words below"),
    ],
)
def test_after_an_answer_one_sentence_says_what_to_try(
    page: do.Callbacks, full: str, other: str, expected: str, prefix: str, said: str
) -> None:
    run = begin(page, methods=["full", "snapkv"])
    assert cards.next_step(run) == ""
    run.finished.set()
    run.task = replace(run.task, expected=expected, answer_prefix=prefix)
    for lane, words in zip(run.lanes, (full, other), strict=True):
        lane.text, lane.finish = words, "end"
    assert said in cards.next_step(run)


# The page and its endpoints


def test_looks_load_nothing_from_the_web() -> None:
    assert "//" not in CSS
    assert "url(" not in CSS
    media = re.findall(r"@media[^{]*\{((?:[^{}]*\{[^{}]*\})*)", CSS.partition("/*")[2])
    assert media
    assert ".gradio-container" not in "".join(media), "Gradio puts it in front there: such a rule fits nothing"
    made = theme()
    assert made._stylesheets == []
    assert made._font_css == []


# Samples


def test_every_sample_holds_its_fact_and_says_whose_it_is() -> None:
    files = {path.stem for path in assets_path("samples").glob("*.txt")}
    assert {entry.name for entry in samples()} == files
    for entry in samples():
        assert entry.document.count(entry.answer) == 1, f"{entry.name}: one place to find it"
        assert entry.licence == "CC0-1.0"
        assert entry.source
        assert expected_answer(f"{entry.document}\n", entry.question) == entry.answer
        assert do.choose_sample(entry.name)[0] == entry.document
    assert expected_answer("anything else", "what?") == ""


@pytest.fixture(autouse=True)
def _no_run_is_left_behind() -> Iterator[None]:
    yield
    until(lambda: not any(thread.name == "judgeq-run" for thread in threading.enumerate()))
