"""The model is used by one run at a time, in the order of arrival, and everybody knows his place."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Any

import gradio as gr
import pytest
import torch
from gradio_client import Client
from gradio_client.client import Job

from app.sections.ask import callbacks as do
from app.sections.ask import cards
from app.server.host import ModelHost
from app.server.limits import Limits
from app.server.queue import Turns
from app.server.run import Run
from app.server.task import Task
from judgeq.errors import JudgeqError
from judgeq.models.language_model import LanguageModel
from tests.server import DOCUMENT, PAGE, QUESTION, Visitor, served, tiny_host
from tests.waiting import PATIENCE_S, until


@pytest.fixture(scope="module")
def host(lm: LanguageModel) -> ModelHost:
    return tiny_host(lm)


def task(**changes: Any) -> Task:
    return Task(DOCUMENT, QUESTION, **{"methods": ("snapkv",), "budget": 24, "max_new_tokens": 3, **changes})


# The line itself


def test_turns_come_in_the_order_of_arrival_and_places_count_down() -> None:
    turns = Turns(waiting=3)
    first, second, third = (turns.join() for _ in range(3))
    assert [place.number for place in (first, second, third)] == [0, 1, 2]
    assert first.wait(0)
    assert not second.wait(0.01)
    first.leave()
    assert second.wait(0)
    assert (second.number, third.number) == (0, 1)
    second.leave()
    second.leave()
    assert third.wait(0)
    third.leave()
    assert len(turns) == 0


def test_who_leaves_frees_the_place_for_those_behind() -> None:
    turns = Turns(waiting=3)
    first, second, third = (turns.join() for _ in range(3))
    second.leave()
    assert third.number == 1
    assert not second.wait(0)
    first.leave()
    assert third.wait(0)


def test_a_full_line_says_so_and_takes_the_next_one_when_there_is_room() -> None:
    turns = Turns(waiting=1)
    first, _second = turns.join(), turns.join()
    with pytest.raises(JudgeqError, match="queue is full: 1 others"):
        turns.join()
    first.leave()
    assert turns.join().number == 1


def test_hundreds_of_threads_never_use_it_at_once_and_nobody_is_overtaken() -> None:
    turns, inside, order = Turns(waiting=300), [], []
    places = [turns.join() for _ in range(200)]

    def use(index: int) -> None:
        assert places[index].wait(PATIENCE_S)
        inside.append(index)
        assert len(inside) == 1
        order.append(index)
        inside.clear()
        places[index].leave()

    threads = [threading.Thread(target=use, args=(index,)) for index in reversed(range(200))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert order == list(range(200))


# Runs


def test_twenty_runs_are_all_served_in_order_with_their_place_shown(host: ModelHost) -> None:
    runs = [Run(task(), host) for _ in range(20)]
    order: list[int] = []
    with host.turn():
        for run in runs:
            run.start()
        until(lambda: all(run.phase == "waiting" for run in runs))
        assert [run.place for run in runs] == list(range(1, 21))
        assert "You are number 20 in the queue" in cards.run_status(runs[-1])
        runs[4].cancel()
        assert runs[4].finished.wait(PATIENCE_S)
        assert [run.place for run in runs[5:]] == list(range(5, 20))
    for index, run in enumerate(runs):
        threading.Thread(target=lambda i=index, r=run: (r.finished.wait(PATIENCE_S), order.append(i))).start()
    until(lambda: len(order) == 20)
    ends = [run.lanes[0].answer for index, run in enumerate(runs) if index != 4]
    assert all(answer is not None for answer in ends)
    assert len({answer.text for answer in ends if answer}) == 1
    assert runs[4].phase == "stopped"


def test_runs_work_one_at_a_time_and_first_come_first_served(host: ModelHost, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    real = Run._at_work

    def answer(self: Run, lm: LanguageModel) -> None:
        seen.append(("in", runs.index(self)))
        real(self, lm)
        seen.append(("out", runs.index(self)))

    monkeypatch.setattr(Run, "_at_work", answer)
    runs = [Run(task(), host) for _ in range(8)]
    for run in runs:
        run.start()
    for run in runs:
        assert run.finished.wait(PATIENCE_S)
    assert seen == [(step, index) for index in range(8) for step in ("in", "out")]


def test_a_full_queue_is_said_on_the_page_and_the_visitor_can_ask_again(lm: LanguageModel) -> None:
    host = tiny_host(lm, Limits(waiting=1))
    page = do.Callbacks(host)
    with host.turn():
        waiting = Run(task(), host).start()
        turned_away = Run(task(), host)
        with pytest.raises(gr.Error, match="queue is full"):
            next(page.follow(turned_away))
    assert waiting.finished.wait(PATIENCE_S)
    list(page.follow(turned_away))
    assert turned_away.phase == "done"


def test_one_visitor_has_one_place(host: ModelHost) -> None:
    page = do.Callbacks(host)
    again = [DOCUMENT, QUESTION, 24, ["full"], False, 4, False]
    with host.turn():
        before = Run(task(), host).start()
        with pytest.raises(gr.Error, match="still being answered"):
            page.begin(*again, before)
        assert len(host.turns) == 2
    assert before.finished.wait(PATIENCE_S)
    assert page.begin(*again, before)[0] is not before
    assert page.begin(*again, Run(task(), host))[0], "one that never started holds nothing up"


def test_a_run_that_takes_too_long_is_ended_and_says_so(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lm.__dict__, "eos_ids", frozenset())  # random models stop anywhere
    host = tiny_host(lm, Limits(seconds=0.3, answer=4000))
    run = Run(task(max_new_tokens=3000), host).start()
    assert run.finished.wait(PATIENCE_S)
    assert "took longer than 0.005 minutes" in str(run.error)
    assert len(host.turns) == 0
    quick = tiny_host(lm, Limits(seconds=60))
    assert Run(task(), quick).start().finished.wait(PATIENCE_S)


def test_waiting_does_not_count_as_time_at_work(lm: LanguageModel) -> None:
    host = tiny_host(lm, Limits(seconds=600))
    with host.turn():
        run = Run(task(), host).start()
        until(lambda: run.phase == "waiting")
        assert run._end == float("inf")
    assert run.finished.wait(PATIENCE_S)
    assert run.phase == "done"


@pytest.mark.parametrize("failure", [torch.OutOfMemoryError("full"), MemoryError(), ZeroDivisionError()])
def test_the_next_run_works_after_one_that_broke(
    host: ModelHost, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    before = Run(task(), host).start()
    assert before.finished.wait(PATIENCE_S)
    with monkeypatch.context() as broken:

        def read(*_: Any, on_layer: Any, **__: Any) -> None:
            on_layer(1, 4)
            raise failure

        broken.setattr("app.server.run.read", read)
        run = Run(task(), host).start()
        assert run.finished.wait(PATIENCE_S)
        assert run.phase == "failed"
    after = Run(task(), host).start()
    assert after.finished.wait(PATIENCE_S)
    assert after.phase == "done"
    assert after.lanes[0].text == before.lanes[0].text
    assert len(host.turns) == 0


# Over HTTP


def test_programs_at_once_are_all_served_in_order(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.endpoints.TICK", 0.05)
    host = tiny_host(lm)
    order: list[Run] = []
    real = Run._at_work
    monkeypatch.setattr(Run, "_at_work", lambda self, model: (order.append(self), real(self, model))[1])
    jobs: list[Job] = []

    def told(index: int) -> list[int]:
        """The places that it was told so far."""
        return [state["place"] for state in jobs[index].outputs() if "place" in state]

    with served(host) as url:
        clients = [Client(url, verbose=False) for _ in range(2)]
        with host.turn():
            for index in range(8):
                client = clients[index % len(clients)]
                jobs.append(client.submit(DOCUMENT, QUESTION, "snapkv", "24", False, 3, api_name="/ask"))
                until(lambda index=index: len(host.turns) == index + 2)
            line = list(host.turns._line[1:])
            until(lambda: all(told(index) for index in range(8)))
        results = [job.result(PATIENCE_S) for job in jobs]
        for client in clients:
            client.close()
    assert len({result["answer"] for result in results}) == 1
    assert [run._place for run in order] == line
    for index in range(8):
        assert max(told(index)) == index + 1
        assert told(index) == sorted(told(index), reverse=True)


@pytest.mark.parametrize("who", ["program", "page"])
def test_who_hangs_up_stops_the_run_and_frees_the_place(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    monkeypatch.setattr("app.endpoints.TICK", 0.05)
    host = tiny_host(lm)
    with served(host) as url, Visitor(url) as visitor, host.turn():
        if who == "page":
            visitor.call("begin", PAGE)
            visitor.join("follow", [None])
        else:
            visitor.join("ask", [DOCUMENT, QUESTION, "snapkv", "24", False, 3])
        with visitor.listen() as messages:
            assert "process_generating" in {message["msg"] for message in islice(messages, 4)}
            assert len(host.turns) == 2
        until(lambda: len(host.turns) == 1)


def test_texts_that_wait_are_bounded_together(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.request_checks.MOST_WAITING_BYTES", 1000)
    loaded = threading.Event()

    def load(*_: Any, **__: Any) -> LanguageModel:
        loaded.wait(PATIENCE_S)
        return lm

    with served(ModelHost(lm.name, load=load)) as url, Visitor(url) as visitor:
        text_of = ["x" * 700, "q"]
        codes = [visitor.join("count_tokens", text_of).status_code for _ in range(3)]
        until(lambda: 503 in codes or codes.append(visitor.join("count_tokens", text_of).status_code))
        refused = visitor.join("count_tokens", text_of)
        assert "Too many long texts are waiting" in refused.json()["detail"]
        assert visitor.join("count_tokens", ["short", "q"]).status_code == 200
        loaded.set()
