"""The method in docs/own-method.md is short, runs as it stands there and can be used by name everywhere."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

import judgeq
from app.endpoints import Endpoints
from app.sections.ask.cards import _card
from app.server.host import ModelHost
from app.server.task import Lane
from app.ui import build
from judgeq.cli import main
from judgeq.evaluation.report.styles import styles_of
from judgeq.evaluation.report.words import method_title
from judgeq.methods import METHODS
from judgeq.methods.parsing import method_from_text
from judgeq.models.language_model import LanguageModel
from tests.fixtures import TEXT, build_model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-method.md"
QUESTION = "How tall is the lighthouse?"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """The page's example as a file of its own; what it registers is taken back."""
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    path = tmp_path / "valuenorm.py"
    path.write_text(code, encoding="utf-8")
    known = dict(METHODS)
    yield path
    METHODS.clear()
    METHODS.update(known)


def imported(path: Path) -> None:
    specification = importlib.util.spec_from_file_location("valuenorm", path)
    assert specification
    assert specification.loader
    specification.loader.exec_module(importlib.util.module_from_spec(specification))


def test_it_has_at_most_twenty_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 20


def test_it_answers_by_name(file: Path, lm: LanguageModel) -> None:
    imported(file)
    decoding = judgeq.Decoding(max_new_tokens=4)
    answer = judgeq.ask(lm, TEXT * 3, QUESTION, method="valuenorm", budget=24, decoding=decoding)
    assert answer.method == "valuenorm"
    assert answer.retention.kept_rows.tolist() == [[24, 24]] * 4
    assert answer.retention.scores is not None
    last = range(answer.prompt_tokens - 16, answer.prompt_tokens)
    assert all(set(last) <= set(rows.tolist()) for rows in answer.retention.rows_of())


def test_its_fields_and_the_selections_are_options(file: Path) -> None:
    imported(file)
    method = method_from_text("valuenorm:power=1:pool=3:allocation=pyramid+adakv")
    assert method == METHODS["valuenorm"](
        power=1.0, selection=judgeq.Selection(recent=16, pool=3, allocation="pyramid+adakv")
    )


def test_its_score_is_what_the_page_says(file: Path) -> None:
    imported(file)
    values = torch.tensor([[[[3.0, 4.0], [1.0, 0.0], [9.0, 9.0]]]])  # the last row is behind the prompt
    view = judgeq.methods.LayerView(
        0, values, values, values, 1.0, None, None, torch.Tensor, prompt_tokens=2, soft_tokens=1
    )
    assert METHODS["valuenorm"]().score(view).tolist() == [[[5.0, 1.0]]]


def test_the_file_is_a_command_line_of_its_own(
    file: Path,
    tmp_path: Path,
    tokenizer: PreTrainedTokenizerFast,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build_model().save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "doc.txt").write_text(TEXT * 3, encoding="utf-8")
    asked = [
        "--document",
        str(tmp_path / "doc.txt"),
        "--question",
        QUESTION,
        "--model",
        str(tmp_path / "model"),
    ]
    options = ["--method", "valuenorm:power=1", "--budget", "24", "--max-new-tokens", "4", "--json", "-"]
    monkeypatch.setattr(sys, "argv", [str(file), "ask", *asked, *options])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(file), run_name="__main__")
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["method"] == "valuenorm"


def test_its_title_summary_and_look_are_found_everywhere(
    file: Path, lm: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    text = file.read_text(encoding="utf-8")
    own = '    title, summary, look = "Value norm", "Keeps long values.", Look("#123456", "4px,4px", "star")\n'
    named = re.sub(r'(    name = "valuenorm"\n)', rf"\1{own}", text)
    file.write_text(f"from judgeq.methods import Look\n{named}", encoding="utf-8")
    imported(file)
    host = ModelHost(lm.name, load=lambda *_, **__: lm)
    page = json.dumps(build(host).get_config_file(), default=str)
    assert '["Value norm", "valuenorm"]' in page
    assert _card(Lane("valuenorm"), None)["hint"] == "Keeps long values."
    assert main(["methods"]) == 0
    assert "valuenorm Value norm. Keeps long values." in " ".join(capsys.readouterr().out.split())
    assert Endpoints(host).models_and_methods()["methods"]["valuenorm"] == "Keeps long values."
    assert method_title("valuenorm:pool=3") == "Value norm (pool 3)"
    assert styles_of(["valuenorm"])["valuenorm"].color == "#123456"
