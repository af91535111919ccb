"""The whole demo over a tiny random model, served in this process, for tests that come over HTTP."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx
import torch

from app.server.host import ModelHost
from app.server.limits import Limits
from app.ui import build, serve
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens

DOCUMENT = "The lighthouse was built in 1874 and is 31 metres tall. Its keeper is called Aldous. " * 4
QUESTION = "How tall is the lighthouse?"
PAGE = [DOCUMENT, QUESTION, 24, ["snapkv"], False, 6, False, None, None, "", "", "", False, None]
"""What the page sends for a run."""


def tiny_host(lm: LanguageModel, limits: Limits = Limits()) -> ModelHost:
    """A host whose model is loaded already, with random soft tokens."""
    with tempfile.TemporaryDirectory() as folder:
        SoftTokens.initialise(lm, torch.arange(10, 18)).save_pretrained(folder)
        host = ModelHost(lm.name, folder, load=lambda name, progress: lm, limits=limits)
        host.soft_tokens(("judgeq",))
    return host


@contextmanager
def served(host: ModelHost) -> Iterator[str]:
    """The address of the demo over this host, served as `app.py` does it."""
    demo = build(host)
    serve(demo, server_name="127.0.0.1", server_port=None, prevent_thread_lock=True, quiet=True)
    try:
        yield demo.local_url.rstrip("/")
    finally:
        demo.close(verbose=False)


class Visitor:
    """A page, or somebody who pretends to be one: calls any event over HTTP, with any values.

    Attributes:
        events: index of each event by its name, private ones included.
    """

    _count = itertools.count()

    def __init__(self, url: str) -> None:
        self.url, self.session = f"{url}/gradio_api", f"visitor{next(self._count)}"
        self.http = httpx.Client(timeout=60)
        found = self.http.get(f"{url}/config").json()["dependencies"]
        self.events: dict[str, int] = {each["api_name"]: each["id"] for each in found}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.http.close()

    def join(self, event: str | int, data: list[Any]) -> httpx.Response:
        """Put an event into the queue."""
        index = self.events[event] if isinstance(event, str) else event
        body = {"fn_index": index, "data": data, "session_hash": self.session}
        # `json.dumps` writes NaN and Infinity, which httpx would refuse
        return self.http.post(
            f"{self.url}/queue/join", content=json.dumps(body), headers={"content-type": "application/json"}
        )

    @contextmanager
    def listen(self) -> Iterator[Iterator[dict[str, Any]]]:
        """What the server says to this session; leaving hangs up."""
        address = f"{self.url}/queue/data?session_hash={self.session}"
        with self.http.stream("GET", address) as stream:
            lines = (line.removeprefix("data:") for line in stream.iter_lines() if line.startswith("data:"))
            yield map(json.loads, lines)

    def call(self, event: str, data: list[Any]) -> tuple[bool, Any]:
        """Whether an event succeeds, and its last output."""
        done = self.hear(event, data)[-1]
        return done["success"], done["output"]

    def hear(self, event: str, data: list[Any]) -> list[dict[str, Any]]:
        """Everything that the server says about an event, its end last."""
        joined = self.join(event, data)
        assert joined.status_code == 200, joined.text
        heard = []
        with self.listen() as messages:
            for message in messages:
                heard.append(message)
                if message["msg"] == "process_completed":
                    break
        return heard

    def call_directly(self, event: str, data: list[Any]) -> httpx.Response:
        """The answer to an event that does without the queue."""
        body = {"fn_index": self.events[event], "data": data, "session_hash": self.session}
        return self.http.post(
            f"{self.url}/run/predict", content=json.dumps(body), headers={"content-type": "application/json"}
        )
