"""The code in docs/documents.md runs as it stands there, from top to bottom, and its figures are measured."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import judgeq
from judgeq.cli import main
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.conftest import TEXT, build_model

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "documents.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_pages_code_runs(
    lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = SoftTokens.initialise(lm, torch.arange(40, 44))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judgeq, "load", lambda name: lm, raising=False)
    monkeypatch.setattr(SoftTokens, "for_model", lambda lm, name=None: tokens)
    names: dict[str, Any] = {"text": TEXT * 10}
    for code in blocks("python"):
        exec(code, names)
    assert names["answer"].method == "judgeq"
    assert names["answer"].budget == 128
    assert names["answer"].text == judgeq.ask(lm, TEXT * 10, "What does a ship pay?", budget=128).text
    assert names["compressed"].kv_bytes < names["compressed"].full_kv_bytes
    assert (tmp_path / "lighthouse" / "document.json").is_file()
    assert "query-agnostic" in capsys.readouterr().out


def test_the_pages_commands_run(
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "FILE").write_text(TEXT * 4)
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("sh") for line in block.splitlines() if "judgeq ask" in line]
    assert len(commands) == 3
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["python", "-m", "judgeq"]
        assert main([*words[3:], "--model", "model", "--method", "snapkv", "--max-new-tokens", "4"]) == 0
    assert capsys.readouterr().out.count("> ") == 2
    assert (tmp_path / "DIR" / "document.json").is_file()


def test_what_reading_32768_tokens_took_is_that_of_the_results_files() -> None:
    rows = {"in one pass": "one_pass", "in chunks of 1,024": "chunks"}
    table = PAGE.split("<!-- figures: assets/results/long -->\n", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    for line, (label, name) in zip(table, rows.items(), strict=True):
        found = json.loads((ROOT / "assets" / "results" / "long" / f"{name}.json").read_text("utf-8"))
        assert (found["prompt_tokens"], found["budget"]) == (32768, 512)
        assert found["chunk"] == (None if name == "one_pass" else 1024)
        sizes = [f"{found['measured'][part] / 2**30:.2f}" for part in ("reading", "reading_full")]
        assert [cell.strip() for cell in line.strip("|").split("|")] == [label, *sizes]
