"""The code in docs/programs.md runs against a server as it stands there, and its figures are those of the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from app.server.limits import Limits
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.text_files import MAX_BYTES, MAX_MEMORY, MAX_SECONDS
from tests.server import served, tiny_host

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_code_runs(lm: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"text": "Every ship pays two crowns. " * 20}
    with served(tiny_host(lm)) as url:
        for code in blocks("python"):
            exec(code.replace("http://127.0.0.1:7860", url), names)
        names["client"].close()
    assert names["answer"]["budget"] == round(names["answer"]["prompt_tokens"] / 4)
    assert [each["method"] for each in names["both"]] == ["full", "snapkv"]
    assert names["answer"]["answer"] in capsys.readouterr().out


def test_the_page_names_every_endpoint_and_the_address_of_the_tools() -> None:
    pinned = json.loads((ROOT / "tests" / "data" / "endpoints.json").read_text(encoding="utf-8"))
    listed = set(re.findall(r"^\| `(/\w+)` \|", PAGE, re.MULTILINE))
    assert listed == set(pinned)
    (settings,) = blocks("json")
    assert json.loads(settings)["mcpServers"]["judgeq"]["url"].endswith("/gradio_api/mcp/")


def test_the_bounds_are_those_of_the_code() -> None:
    limits = Limits()
    assert (limits.seconds, limits.answer, limits.document, limits.waiting) == (600, 256, 1_000_000, 32)
    assert (MAX_BYTES, MAX_MEMORY, MAX_SECONDS) == (10_000_000, 1_000_000_000, 30)
    for said in (
        "ten minutes",
        "256 tokens",
        "a million characters",
        "32\nmay wait",
        "10 MB",
        "1 GB and half a minute",
    ):
        assert said in PAGE
