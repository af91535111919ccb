"""How `app.py` starts: the page can be opened at the printed address, or a sentence says why not."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app import ui
from app.server import environment
from app.server.host import ModelHost
from app.start import launch
from judgeq.errors import InputError, JudgeqError
from judgeq.models.language_model import LanguageModel
from tests.waiting import PATIENCE_S

FOREIGN = "203.0.113.7"
"""An address that is kept for documents."""


@pytest.fixture(autouse=True)
def restored_variables() -> Iterator[None]:
    """Variables as a test leaves them are gone with it."""
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith("GRADIO_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


@pytest.mark.parametrize(
    ("words", "variables", "said"),
    [
        (["--port", "99999"], {}, "--port is '99999'"),
        (["--port=-1"], {}, "--port is '-1'"),
        (["--port", "http"], {}, "--port is 'http'"),
        (["--host", FOREIGN], {}, f"{FOREIGN} is not an address of this machine"),
        (["--host", "2001:db8::7"], {}, "is not an address of this machine"),
        (["--host", "http://127.0.0.1"], {}, "is not an address"),
        (["--host", ""], {}, "is not an address"),
        (["--host", "x" * 70], {}, "is not an address"),
        (["--minutes", "nan"], {}, "--minutes has to be above 0"),
        ([], {"GRADIO_SERVER_PORT": "abc"}, "GRADIO_SERVER_PORT is 'abc'"),
        ([], {"GRADIO_SERVER_PORT": "70000"}, "GRADIO_SERVER_PORT is '70000'"),
        ([], {"GRADIO_SERVER_NAME": FOREIGN}, "is not an address of this machine"),
        (["--port", "0"], {"GRADIO_NUM_PORTS": "many"}, "GRADIO_NUM_PORTS is 'many'"),
        (["--port", "0"], {"GRADIO_DEBUG": "true"}, "GRADIO_DEBUG is 'true'"),
        (["--port", "0"], {"GRADIO_ANALYTICS_MAX_EVENTS": "1e4"}, "GRADIO_ANALYTICS_MAX_EVENTS is '1e4'"),
        (["--port", "0"], {"GRADIO_ROOT_PATH": "judgeq"}, "GRADIO_ROOT_PATH is 'judgeq'"),
        (["--port", "0"], {"GRADIO_ROOT_PATH": "https://"}, "GRADIO_ROOT_PATH is 'https:'"),
        (["--port", "0"], {"JUDGEQ_QUANTIZATION": "3bit"}, "JUDGEQ_QUANTIZATION is '3bit'"),
        (["--port", "0"], {"JUDGEQ_DTYPE": "int8"}, "JUDGEQ_DTYPE is 'int8'"),
        (["--port", "0"], {"HTTP_PROXY": "ftp://me:secret@proxy"}, "HTTP_PROXY is 'ftp://…@proxy'"),
        (["--port", "0"], {"all_proxy": "socks4://proxy:1080"}, "all_proxy is 'socks4://proxy:1080'"),
    ],
)
def test_a_start_that_cannot_be_is_refused_in_one_sentence(
    words: list[str], variables: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    os.environ.update(variables)
    with pytest.raises(SystemExit) as end:
        launch(words)
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.startswith("app.py: ")
    assert told.count("\n") == 1


def test_a_taken_port_is_said(taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--port", str(taken)], ["--port", str(taken), "--host", "0.0.0.0"]):
        with pytest.raises(SystemExit, match="2"):
            launch(words)
        assert f"Port {taken} is taken" in capsys.readouterr().err


def test_a_port_that_the_user_may_not_have_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(environment, "_bound", refuse)
    with pytest.raises(InputError, match="may not be used by this user"):
        environment.listening_at("127.0.0.1", 80)


def test_port_0_is_any_free_one() -> None:
    first = environment.listening_at("127.0.0.1", 0)
    with socket.socket() as other:
        other.bind(first)
        other.listen()
        assert environment.listening_at("127.0.0.1", 0)[1] not in (0, first[1])


@pytest.mark.parametrize(
    ("host", "listens", "opened"),
    [
        ("::1", "[::1]", "[::1]"),
        ("[::1]", "[::1]", "[::1]"),
        ("::", "[::]", "[::1]"),
        ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
        ("0", "0.0.0.0", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_address_is_one_that_a_browser_opens(host: str, listens: str, opened: str) -> None:
    try:
        place = environment.settle_place(host, "0")
    except InputError:
        assert ":" in host, "only IPv6 may be missing"
        pytest.skip("this machine has no IPv6")
    assert place.host == listens
    assert place.opened_at == f"http://{opened}:{place.port}"


def test_behind_a_proxy_the_printed_address_is_that_of_the_proxy() -> None:
    os.environ["GRADIO_ROOT_PATH"] = "https://example.org/judgeq/"
    place = environment.settle_place(None, "0")
    assert place.root_path == place.opened_at == "https://example.org/judgeq"


def test_variables_are_taken_and_empty_ones_are_none() -> None:
    os.environ.update(GRADIO_SERVER_NAME=" ", GRADIO_SERVER_PORT="0", GRADIO_NUM_PORTS="", GRADIO_DEBUG="1")
    place = environment.settle_place()
    assert place.host == "127.0.0.1"
    assert not {"GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_NUM_PORTS"} & set(os.environ)
    assert os.environ["GRADIO_DEBUG"] == "1"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize("value", ["http://127.0.0.1:9", "127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_is_not_asked_for_the_page_itself(name: str, value: str, taken: int) -> None:
    os.environ.update({name: value, "NO_PROXY": "[::1], example.org", "no_proxy": ""})
    environment.past_proxies("127.0.0.1")
    assert "example.org" in os.environ["no_proxy"].split(",")
    with httpx.Client() as client:
        for own in (f"http://127.0.0.1:{taken}", f"http://localhost:{taken}", f"http://[::1]:{taken}"):
            assert not _is_proxied(client, own)
        assert _is_proxied(client, "http://example.com")


def _is_proxied(client: httpx.Client, url: str) -> bool:
    return client._transport_for_url(httpx.URL(url)) is not client._transport


def test_soft_tokens_that_cannot_be_had_are_said_and_those_of_the_model_may_be_missing(
    lm: LanguageModel, tmp_path: Path
) -> None:
    ModelHost("tiny", load=lambda *_, **__: lm).check()
    with pytest.raises(JudgeqError):
        ModelHost("tiny", tmp_path / "none", load=lambda *_, **__: lm).check()


class Left(BaseException):
    """In place of the end of the process."""


@pytest.mark.parametrize(
    ("model", "opened", "said"),
    [("no-such-model", 0, "There is no model 'no-such-model': "), ("nobody/no-such-model", 1, "")],
    ids=["before the page opens", "while it is open"],
)
def test_a_model_that_cannot_be_had_ends_the_demo(
    model: str,
    opened: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def leave(code: int) -> None:
        raise Left(code)

    os.environ["GRADIO_TEMP_DIR"] = str(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("os._exit", leave)
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(ui, "build", lambda host, *_: None if opened else host.wait(PATIENCE_S))
    monkeypatch.setattr(ui, "serve", lambda _, **where: served.append(where))
    with pytest.raises((SystemExit, Left), match="2"):
        launch(["--model", model, "--port", "0"])
    (told,) = capsys.readouterr().err.splitlines()[-1:]
    assert told.startswith(f"app.py: {said}")
    assert "no-such-model" in told
    assert len(served) == opened
    assert not opened or not list(tmp_path.iterdir())
