"""What is left of a document comes back from the disk as it was, or is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import judgeq
from judgeq.cli import main
from judgeq.config import Decoding, Selection
from judgeq.documents.compressed import CompressedDocument
from judgeq.documents.document import Document
from judgeq.errors import InputError
from judgeq.methods import LayerView, Method, SnapKV
from judgeq.models.language_model import LanguageModel
from tests.fixtures import TEXT, WINDOW
from tests.test_document import changed, soft, with_tensor

QUESTION = "Who must name the captain?"
SHORT = Decoding(max_new_tokens=6)
CHOICES: dict[str, tuple[str | Method, int | None]] = {
    "uniform": ("judgeq", None),
    "all rows": ("full", None),
    "few bits": ("judgeq", 4),
    "all rows in few bits": ("full", 8),
    "ragged": (SnapKV(selection=Selection(recent=4, allocation="adakv")), None),
    "ragged in few bits": (SnapKV(selection=Selection(recent=4, allocation="adakv")), 8),
    "layers differ": ("pyramidkv", None),
    "nothing scored": ("streamingllm", None),
}


def left(lm: LanguageModel, choice: str = "uniform") -> CompressedDocument:
    method, bits = CHOICES[choice]
    return Document(lm, TEXT).compress(method=method, budget=40, tokens=soft(lm), row_bits=bits)


def tensors(compressed: CompressedDocument) -> list[Tensor]:
    return list(compressed.retained.cache._tensors())


@pytest.mark.parametrize("choice", CHOICES)
def test_what_was_left_comes_back_as_it_was(lm: LanguageModel, tmp_path: Path, choice: str) -> None:
    before = left(lm, choice)
    after = CompressedDocument.load(lm, before.save(tmp_path / "left"))
    assert all(torch.equal(a, b) for a, b in zip(tensors(before), tensors(after), strict=True))
    for name in ("text", "kv_bytes", "full_kv_bytes"):
        assert getattr(after, name) == getattr(before, name)
    answers = [each.ask(QUESTION, decoding=SHORT) for each in (before, after)]
    unlike = {"ttft_s", "prefill_s", "decode_tokens_per_s"}
    first, second = (
        {name: value for name, value in answer.to_dict().items() if name not in unlike} for answer in answers
    )
    assert first == second
    maps = [answer.retention.to_json(scores=True) for answer in answers]
    assert json.dumps(maps[0]) == json.dumps(maps[1])
    again = CompressedDocument.load(lm, after.save(tmp_path / "left"))
    assert all(torch.equal(a, b) for a, b in zip(tensors(before), tensors(again), strict=True))


@pytest.mark.parametrize(("family", "changes"), [("gemma3_text", {}), ("mistral", {"sliding_window": WINDOW})])
@pytest.mark.parametrize("choice", ["uniform", "ragged in few bits"])
def test_windows_come_back_too(
    make_lm: Callable[..., LanguageModel], tmp_path: Path, family: str, changes: dict, choice: str
) -> None:
    lm = make_lm(family, **changes)
    before = left(lm, choice)
    after = CompressedDocument.load(lm, before.save(tmp_path))
    logits = [each.read_for(QUESTION, decoding=SHORT).logits for each in (before, after)]
    assert torch.equal(*logits)


def test_the_files_are_as_small_as_what_is_left(lm: LanguageModel, tmp_path: Path) -> None:
    document = Document(lm, TEXT * 8)
    whole = document.save(tmp_path / "whole") / "rows.safetensors"
    small = document.compress(method="keynorm", budget=40).save(tmp_path / "left") / "rows.safetensors"
    scores = 4 * 2 * document.tokens * 4
    assert small.stat().st_size < 4 * 40 * 256 + scores + 12_000
    assert small.stat().st_size < whole.stat().st_size / 3


@dataclass(frozen=True)
class Latest(Method):
    """A method of someone's own."""

    name: ClassVar[str] = "latest"

    def score(self, view: LayerView) -> Tensor | None:
        batch, heads = view.keys.shape[:2]
        return torch.arange(view.prompt_tokens).float().expand(batch, heads, -1)


def test_a_method_must_be_registered(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compressed = Document(lm, TEXT).compress(method=Latest(), budget=40)
    with pytest.raises(InputError, match=r"add its class to judgeq\.METHODS"):
        compressed.save(tmp_path)
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as registered:
        registered.setitem(judgeq.METHODS, "latest", Latest)
        compressed.save(tmp_path)
        assert CompressedDocument.load(lm, tmp_path).ask(QUESTION, decoding=SHORT).method == "latest"
    with pytest.raises(InputError, match="'latest', which is not registered"):
        CompressedDocument.load(lm, tmp_path)


def reversed_rows(folder: Path) -> None:
    with_tensor(folder, "kept.1", load_file(folder / "rows.safetensors")["kept.1"].flip(-1).contiguous())


@pytest.mark.parametrize(
    ("choice", "spoil", "match"),
    [
        ("uniform", lambda folder: (folder / "document.json").unlink(), "readable document"),
        ("uniform", lambda folder: (folder / "rows.safetensors").unlink(), "readable document"),
        ("uniform", lambda folder: (folder / "rows.safetensors").write_bytes(b"x" * 50), "readable document"),
        ("uniform", lambda folder: changed(folder, format="judgeq.document/1"), "readable document"),
        ("uniform", lambda folder: changed(folder, text="Another text. " * 40), "another text"),
        ("uniform", lambda folder: changed(folder, bits=8), "readable document"),
        ("uniform", lambda folder: changed(folder, bits=5), "readable document"),
        ("uniform", lambda folder: changed(folder, budget=None), "readable document"),
        ("uniform", lambda folder: changed(folder, method=None), "readable document"),
        ("uniform", lambda folder: changed(folder, method="best"), "not registered"),
        ("uniform", lambda folder: changed(folder, revision="abc"), "revision"),
        ("uniform", lambda folder: with_tensor(folder, "ids", None), "readable document"),
        ("uniform", lambda folder: with_tensor(folder, "keys.2", None), "readable document"),
        ("uniform", lambda folder: with_tensor(folder, "keys.2", torch.ones(3)), "readable document"),
        ("uniform", lambda folder: with_tensor(folder, "kept.2", None), "readable document"),
        ("uniform", lambda folder: with_tensor(folder, "values.2", torch.ones(1, 2, 7, 16)), "values is"),
        ("uniform", lambda folder: with_tensor(folder, "scores.2", torch.ones(1, 2, 7)), "scores is"),
        ("uniform", reversed_rows, "does not have"),
        ("ragged", lambda folder: with_tensor(folder, "counts.2", torch.tensor([1, 2])), "readable document"),
        ("ragged", lambda folder: with_tensor(folder, "counts.2", torch.tensor([-1, 81])), "more rows|fewer"),
        ("few bits", lambda folder: with_tensor(folder, "keys.low.2", None), "readable document"),
        ("few bits", lambda folder: with_tensor(folder, "values.step.0", torch.ones(2)), "values.step is"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    lm: LanguageModel, tmp_path: Path, choice: str, spoil: Callable[[Path], object], match: str
) -> None:
    left(lm, choice).save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=match):
        CompressedDocument.load(lm, tmp_path)


@pytest.mark.parametrize("choice", ["all rows", "all rows in few bits"])
def test_other_weights_are_seen(make_lm: Callable[..., LanguageModel], tmp_path: Path, choice: str) -> None:
    left(make_lm(), choice).save(tmp_path)
    with pytest.raises(InputError, match="other weights"):
        CompressedDocument.load(make_lm(seed=1), tmp_path)


def test_complete_and_compressed_documents_are_told_apart(lm: LanguageModel, tmp_path: Path) -> None:
    Document(lm, TEXT).save(tmp_path / "whole")
    left(lm).save(tmp_path / "left")
    with pytest.raises(InputError, match=r"CompressedDocument\.save"):
        CompressedDocument.load(lm, tmp_path / "whole")
    with pytest.raises(InputError, match=r"judgeq\.Document\.save"):
        Document.load(lm, tmp_path / "left")


def test_the_command_line_saves_what_is_left_and_asks_it(
    make_lm: Callable[..., LanguageModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lm = make_lm()
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "file.txt").write_text(TEXT)
    model = [
        "--model",
        str(tmp_path / "model"),
        "--question",
        QUESTION,
        "--max-new-tokens",
        "4",
        "--json",
        "-",
    ]
    small = str(tmp_path / "small")
    agnostic = "--query-agnostic --method snapkv --budget 40 --row-bits 8 --save-document".split()
    assert main(["ask", "--document", str(tmp_path / "file.txt"), *agnostic, small, *model]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(["ask", "--document", small, *model]) == 0
    second = json.loads(capsys.readouterr().out)
    for name in ("answer", "method", "budget", "kept_rows", "kv_bytes", "full_kv_bytes", "query_aware"):
        assert first[name] == second[name], name
    assert np.mean(second["kept_rows"]) > 40  # the question's rows are there too
    for refused in (["--evict-every", "4"], ["--save-document", small]):
        assert main(["ask", "--document", small, *refused, *model]) == 2
        assert "leave" in capsys.readouterr().err
