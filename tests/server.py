"""The whole demo over a tiny random model, served in this process, for tests that come over HTTP."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from app.limits import Limits
from app.session import ModelHost
from app.ui import build, serve
from judgeq.language_model import LanguageModel
from judgeq.soft_tokens import SoftTokens

DOCUMENT = "The lighthouse was built in 1874 and is 31 metres tall. Its keeper is called Aldous. " * 4
QUESTION = "How tall is the lighthouse?"


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
