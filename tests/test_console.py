"""Words reach a terminal, a file and a pipe in every encoding, and a reader that leaves is no error."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from judgeq.cli import main
from judgeq.console import say, sayable, takes_everything
from judgeq.models.loading import load
from judgeq.models.wheels import print_progress
from judgeq.retention import RetentionMap
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.training.progress import Bars
from tests.fixtures import build_model

ENCODINGS = ["cp1252", "ascii", "cp932", "utf-8"]
WORDS = "Mär → 350 €. 東京. \U0001f600 \ud83d"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model, soft tokens and a document under names with spaces, umlauts and a dash in front."""
    root = tmp_path_factory.mktemp("Größe x")
    build_model().save_pretrained(root / "mödel x")
    tokenizer.save_pretrained(root / "mödel x")
    SoftTokens.initialise(load(str(root / "mödel x")), torch.arange(40, 44)).save_pretrained(root / "jüdge x")
    (root / "-döc x.txt").write_text("Mär → 350 €. 東京. Every ship pays 3 crowns. " * 6, encoding="utf-8")
    return root


ASK = ["--model", "mödel x", "--tokens", "jüdge x", "--max-new-tokens", "6", "--budget", "16"]


def ask(*words: str) -> int:
    return main(["ask", "--question", "東京 → ?", *ASK, *words])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_an_encoding_cannot_say_is_escaped(encoding: str) -> None:
    target = io.BytesIO()
    stream = io.TextIOWrapper(target, encoding=encoding, newline="")
    say(WORDS, stream)
    found = target.getvalue().decode(encoding)
    assert found == sayable(WORDS, stream)
    assert found.startswith("Mär" if encoding in ("cp1252", "utf-8") else "M\\xe4r")
    assert found.endswith("\\ud83d")
    assert takes_everything(stream) == (encoding == "utf-8")


@pytest.mark.parametrize("encoding", ENCODINGS[:3])
def test_the_library_says_what_it_has_to_say_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = io.BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(target, encoding=encoding))
    print_progress("Fetching … → 東京")
    with Bars() as bars:
        bars.note("→ 東京 …")
    kept = ((np.array([0]), np.array([0])),)
    RetentionMap("judgeq", "tiny", 1, "東 → é", ((0, 2), (2, 4), (4, 5)), (0, 5), kept, title="Judge Q").show()
    sys.stdout.flush()
    sys.stderr.flush()
    assert b"Fetching" in target.getvalue()
    assert b"Judge Q keeps 1 of 3 rows" in target.getvalue()


def test_a_program_without_a_terminal_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    print_progress("Fetching …")
    RetentionMap("judgeq", "tiny", 1, "a", ((0, 1),), (0, 1), ((np.array([0]),),)).show()


@pytest.mark.parametrize("encoding", ENCODINGS[:3])
def test_a_command_answers_in_every_encoding_and_its_json_is_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.chdir(folder)
    found = []
    for words in (["--question", "Wo → €?"], ["--question", "Wo → €?", "--json", "-"], ["--help"]):
        target = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(target, encoding=encoding))
        with suppress(SystemExit):  # --help
            assert ask("--document", "./-döc x.txt", *words) == 0
        sys.stdout.flush()
        found.append(target.getvalue())
    assert b"> \\u6771\\u4eac" in found[0] or encoding == "cp932"
    assert [answer["question"] for answer in json.loads(found[1])["answers"]] == ["東京 → ?", "Wo → €?"]


def test_names_with_spaces_umlauts_dashes_and_a_tilde_are_names(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    written = ["--json=~/r ü.json", "--html=-p ü.html", "--save-document=~/säved x"]
    assert ask("--document=~/-döc x.txt", *written) == 0
    first = json.loads((folder / "r ü.json").read_text("utf-8"))
    assert "crowns" in (folder / "-p ü.html").read_text("utf-8")
    assert ask("--document", "säved x", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))["answer"] == first["answer"]
    assert not (folder / "~").exists()


def test_a_document_comes_from_standard_input(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    text = (folder / "-döc x.txt").read_bytes()
    page = b"<!DOCTYPE html><title>no</title><p>Every ship <b>pays</b> 3 crowns.</p>"
    for data, code, said in (
        (text, 0, "rows per KV head"),
        (page, 0, "exceeds the prompt's"),
        (b"", 2, "is empty"),
        (b"x" * 10_000_001, 2, "10 MB"),
        (b"PK\x03\x04", 2, "a ZIP archive"),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert ask("--document", "-", "--budget", "128") == code
        assert said in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_leaves_ends_a_command_quietly_and_files_are_written_all_the_same(folder: Path) -> None:
    words = ["ask", "--document", "./-döc x.txt", "--question", "Wo?", *ASK, "--json", "kept.json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "judgeq", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    assert process.wait() == 0
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert json.loads((folder / "kept.json").read_text("utf-8"))["budget"] == 16


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_finds_no_room_is_an_error(folder: Path) -> None:
    command = [sys.executable, "-m", "judgeq", "tokens", "show", "jüdge x"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["judgeq: the system says: No space left on device"]
