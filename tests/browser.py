"""Fixtures for tests that meet the demo as a visitor does: one server for all of them, a fresh page for each."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import gradio as gr
import pytest
from playwright.sync_api import Browser, Page, expect

from app.server.samples import samples
from app.style.stylesheet import CSS
from app.style.theme import theme
from judgeq.models.embedded import embedded_model_path
from tests.waiting import PATIENCE_S, until

ROOT = Path(__file__).parents[1]
SAMPLE = samples()[0]
BRIEF = 1200
"""Characters of its document that are read in a moment, for tests that are not about the answer."""
PATIENCE = 1000 * PATIENCE_S
"""For Playwright, which counts in milliseconds."""

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo keeps what it does not need for long."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="session")
def demo(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a demo in a process of its own, started as a person starts it, where much is set that could
    disturb it. It ends without a complaint and leaves no folder.
    """
    embedded_model_path()  # is fetched without these proxies
    log, port = tmp_path_factory.mktemp("demo") / "log.txt", free_port()
    (unusable := log.with_name("file")).write_text("no folder")
    variables = {
        "PYTHONIOENCODING": "cp1252",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "all_proxy": "socks5://127.0.0.1:9",
        "GRADIO_TEMP_DIR": str(unusable),
        "GRADIO_SERVER_PORT": "",
        "TMPDIR": str(temporary),
        "HF_HUB_OFFLINE": "1",
    }
    command = [sys.executable, "app.py", "--port", str(port)]
    with running(command, port, log, cwd=ROOT, env={**os.environ, **variables}) as url:
        yield url
    told = log.read_text()
    assert f"open at {url}. " in told
    assert "Traceback" not in told, told
    assert not list(temporary.glob("judgeq-*"))


@contextmanager
def served(page: gr.Blocks) -> Iterator[str]:
    """The address of a page of the demo's own parts, in this process and in the demo's look."""
    _, url, _ = page.launch(
        theme=theme(),
        css=CSS,
        server_name="127.0.0.1",
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        run_history=False,
    )
    yield url
    page.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def running(command: list[str], port: int, log: Path, **how: Any) -> Iterator[str]:
    """The address of a server that listens at this port, until the end; `how` goes to `Popen`."""
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **how)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, server, log)
        yield url
    finally:
        server.terminate()
        ended = server.wait(PATIENCE_S)
    assert os.name != "posix" or ended == 128 + signal.SIGTERM


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    def is_there() -> bool:
        assert server.poll() is None, log.read_text()
        try:
            with urlopen(url, timeout=PATIENCE_S) as answer:
                return answer.status == 200
        except (URLError, ConnectionError, TimeoutError):
            return False

    until(is_there)


@pytest.fixture(scope="session")
def tab(browser: Browser) -> Iterator[Page]:
    """The tab of most tests: a new one takes longer to start than the page to load."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@contextmanager
def watched(tab: Page, url: str, *, alone: bool = True, width: int = 1280) -> Iterator[Page]:
    """The page there, loaded anew; it must not complain, open a dialog or, where it is `alone`, ask another host."""
    wrong: list[str] = []
    own = (f"{url.partition('/?')[0]}/", "data:", "blob:") if alone else ""
    heard: dict[Any, Any] = {
        "console": lambda line: wrong.append(line.text) if line.type == "error" else None,
        "pageerror": lambda error: wrong.append(str(error)),
        "dialog": lambda dialog: (wrong.append(dialog.message), dialog.dismiss()),
        "request": lambda sent: None if sent.url.startswith(own) else wrong.append(sent.url),
    }
    for event, listener in heard.items():
        tab.on(event, listener)
    tab.set_viewport_size({"width": width, "height": 900})
    tab.goto(url)
    yield tab
    for event, listener in heard.items():
        tab.remove_listener(event, listener)
    tab.goto("about:blank")  # as who leaves; what was still asked for fails then
    assert wrong == []


@pytest.fixture
def page(tab: Page, demo: str) -> Iterator[Page]:
    """The demo with its stored answers, which fill the form too."""
    with watched(tab, demo) as page:
        expect(page.locator(".status.ready")).to_be_visible()
        expect(page.locator(".card.done")).to_have_count(3)
        yield page


def unfold(page: Page, name: str) -> None:
    """Open a section that is folded until a wide window comes near it, or somebody opens it on a phone."""
    page.locator(f"[data-fold={name}]").scroll_into_view_if_needed()
    button = page.locator(f"#{name} .label-wrap")
    if page.viewport_size and page.viewport_size["width"] <= 900:
        expect(button).to_have_attribute("aria-expanded", "false")
        button.click()
    expect(button).to_have_attribute("aria-expanded", "true")


def overflow(page: Page) -> int:
    """Pixels that the page is wider than the window; a phone scrolls in one direction only."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
