"""The Python of pages about one subject runs as it stands there, from top to bottom, and does what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import judgeq
from judgeq.cache.ragged import FrozenRows
from judgeq.cache.retained import storage_bytes
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.code_blocks import ROOT, code, text_of
from tests.fixtures import TEXT
from tests.server import served, tiny_host


@pytest.fixture
def given(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    """A tiny model and soft tokens in place of the embedded ones, in an empty folder."""
    tokens = SoftTokens.initialise(lm, torch.arange(40, 44))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judgeq, "load", lambda name: lm, raising=False)
    monkeypatch.setattr(SoftTokens, "for_model", lambda lm, name=None, **how: tokens)
    monkeypatch.setattr("judgeq.inference.request.find_shipped", lambda lm: tokens)
    return lm


def run(document: str, names: dict[str, Any], **replaced: str) -> dict[str, Any]:
    for block in code(document):
        text = block.text
        for old, new in replaced.items():
            text = text.replace(old, new)
        exec(text, names)
    return names


def test_documents(given: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    names = run("docs/documents.md", {"text": TEXT * 10})
    assert (names["answer"].method, names["answer"].budget) == ("judgeq", 128)
    assert names["answer"].text == judgeq.ask(given, TEXT * 10, "What does a ship pay?", budget=128).text
    assert names["compressed"].kv_bytes < names["compressed"].full_kv_bytes
    assert Path("lighthouse/document.json").is_file()
    assert "query-agnostic" in capsys.readouterr().out


def test_memory(given: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(given.__dict__, "eos_ids", frozenset())  # random models stop anywhere
    names = run("docs/memory.md", {})
    answer = names["answer"]
    assert answer.finish == "length"
    assert all(len(rows) <= 48 + 64 for layer in answer.rows_at_end for rows in layer)
    assert len(names["survivors"]) == 2
    assert all(rows.min() >= 0 and rows.max() == 198 for rows in names["survivors"])
    assert names["plain"].kv_bytes > 3 * names["small"].kv_bytes


@pytest.mark.parametrize(
    ("stored", "bits", "size"),
    [("float32", None, 512), ("16 bits", None, 256), ("8 bits", 8, 144), ("4 bits", 4, 80)],
)
def test_a_row_takes_the_bytes_of_the_page_about_memory(stored: str, bits: int | None, size: int) -> None:
    rows = torch.randn(320, 64, dtype=torch.float16 if stored == "16 bits" else torch.float32)
    assert storage_bytes(FrozenRows.of_heads([(rows, rows)], bits).tensors()) == 320 * size
    assert f"| {stored} | {size} |" in text_of("docs/memory.md")


def test_programs(lm: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    with served(tiny_host(lm)) as url:
        names = run(
            "docs/programs.md",
            {"text": "Every ship pays two crowns. " * 20},
            **{"http://127.0.0.1:7860": url},
        )
        names["client"].close()
    assert names["answer"]["budget"] == round(names["answer"]["prompt_tokens"] / 4)
    assert [each["method"] for each in names["both"]] == ["full", "snapkv"]
    assert names["answer"]["answer"] in capsys.readouterr().out


def test_the_page_about_programs_names_every_endpoint_and_the_address_of_the_tools() -> None:
    pinned = json.loads((ROOT / "tests" / "data" / "endpoints.json").read_text(encoding="utf-8"))
    assert set(re.findall(r"^\| `(/\w+)` \|", text_of("docs/programs.md"), re.MULTILINE)) == set(pinned)
    (settings,) = code("docs/programs.md", "json")
    assert json.loads(settings.text)["mcpServers"]["judgeq"]["url"].endswith("/gradio_api/mcp/")
