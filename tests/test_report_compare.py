"""Results files from anywhere: their form is described, older ones are read, and what cannot be compared is said."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from judgeq.cli import main
from judgeq.errors import InputError
from judgeq.evaluation.report import (
    ResultFile,
    incomparable,
    precision_of,
    read_results,
    results_from,
    to_html,
)
from judgeq.evaluation.report.read import FORMAT
from tests.test_report import RESULTS, ROOT, raw

SCHEMA = ROOT / "docs" / "_static" / "results.schema.json"
SEEDED = "python -m judgeq evaluate ruler --memory 8"


def changed(name: str = "b.json", **changes: Any) -> ResultFile:
    return results_from({**raw("ruler"), **changes}, name, name)


def settings(**more: Any) -> dict[str, Any]:
    return {"settings": {**raw("ruler")["settings"], **more}}


def test_the_schema_in_the_documents_is_of_the_classes_that_read_files() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "schema.py"))  # python -m docs.schema
    assert SCHEMA.read_text("utf-8") == script["schema"](), "run: ./run python -m docs.schema"


@pytest.mark.parametrize("kind", ["answers", "hit-rate"])
def test_what_evaluate_writes_is_of_the_schema_and_names_its_version(
    kind: str, tmp_path: Path, make_lm: Callable[..., Any]
) -> None:
    lm = make_lm()
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    path = tmp_path / "result.json"
    sizes = ["--lengths", "400"] if kind == "answers" else ["--min-tokens", "60", "--max-tokens", "160"]
    methods = ["--methods", "snapkv,streamingllm" + (",full" if kind == "answers" else ""), "--budgets", "16"]
    words = ["evaluate", kind, "--model", str(tmp_path / "model"), "--examples", "2", *methods, *sizes]
    assert main([*words, "--json", str(path)]) == 0
    written = json.loads(path.read_text("utf-8"))
    schema = json.loads(SCHEMA.read_text("utf-8"))
    assert not list(Draft202012Validator(schema).iter_errors(written))
    assert written.keys() <= schema["properties"].keys()
    assert {name for row in written["rows"] for name in row} <= schema["$defs"]["Row"]["properties"].keys()
    file = read_results(path)
    assert (file.format, precision_of(file)) == (FORMAT, "float32")
    assert {"weights", "tokenizer", "torch", "transformers"} <= file.setup.keys()
    assert set(file.questions) == ({"facts-led@400"} if kind == "answers" else set())


def test_files_of_every_version_are_read_and_newer_ones_are_refused() -> None:
    assert (changed().format, changed(format=FORMAT).format) == (0, FORMAT)
    with pytest.raises(InputError) as error:
        changed(format=FORMAT + 1)
    assert str(error.value) == (
        f"b.json: format: it is of version {FORMAT + 1}, and this judgeq reads up to {FORMAT}: update judgeq"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "reason"),
    [
        ({}, {"model": "llama"}, "model llama, not made-up-1b"),
        ({"precision": "float32"}, {"precision": "4bit, bfloat16"}, "precision 4bit, bfloat16, not float32"),
        ({"precision": "float32"}, {}, "precision unknown, not float32"),
        ({"precision": "4bit"}, settings(command="judgeq evaluate ruler --quantization=4bit"), ""),
        ({"setup": {"weights": "aa"}}, {"setup": {"weights": "bb"}}, "other weights"),
        ({"setup": {"torch": "2.8"}}, {"setup": {"torch": "2.9"}}, "torch 2.9, not 2.8"),
        ({"setup": {"soft tokens": "aa"}}, {"setup": {"soft tokens": "bb"}}, ""),  # what people compare
        ({}, {"seed": 1}, "seed 1, not 0"),
        (settings(seed=0), {"seed": None, **settings(seed=1)}, "seed 1, not 0"),
        ({}, settings(lengths=[1024, 2048]), "lengths 1024, 2048, not 1024"),
        (settings(tasks=["vt"]), settings(tasks=list("abcdefghijklmnop")), "other tasks"),
        (
            settings(command=SEEDED),
            settings(command="judgeq evaluate ruler"),
            "memory rows by default, not 8",
        ),
        (settings(command="judgeq 'evaluate"), settings(command="judgeq evaluate"), ""),
        ({"questions": {"ruler/vt@1024": "aa"}}, {"questions": {"ruler/vt@1024": "bb"}}, "other questions"),
        ({"questions": {"ruler/vt@1024": "aa"}}, {"questions": {"ruler/vt@2048": "bb"}}, ""),
        ({"versions": {"judgeq": "0.1.0"}}, {"versions": {"judgeq": "0.2.0"}}, ""),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(
    ours: dict[str, Any], theirs: dict[str, Any], reason: str
) -> None:
    found = incomparable([changed("a.json", **ours), changed("b.json", **theirs)])
    assert found == ([f"RULER: b.json cannot be compared with a.json: {reason}."] if reason else [])


def test_another_place_of_the_question_is_another_protocol() -> None:
    rows = raw("ruler")["rows"]
    first, last = ([row for row in rows if row["question_first"] is place] for place in (True, False))
    sentence = "RULER: b.json cannot be compared with a.json: question before the document, not at the end."
    assert incomparable([changed("a.json", rows=last), changed("b.json", rows=first)]) == [sentence]
    assert incomparable([changed("a.json", rows=last), changed("b.json")]) == []


def test_files_that_go_together_are_named_once_and_other_benchmarks_not_at_all() -> None:
    files = [changed("a.json"), changed("b.json", seed=1), changed("c.json", seed=1), changed("d.json")]
    assert incomparable(files) == ["RULER: b.json cannot be compared with a.json: seed 1, not 0."]
    assert incomparable([changed("a.json"), read_results(RESULTS / "hit_rate.json")]) == []


def test_the_report_says_it_on_both_pages_and_in_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(tmp_path / name) for name in ("a.json", "b<i>.json")]
    for name, model in zip(names, ("one", "<b>two"), strict=True):
        Path(name).write_text(json.dumps({**raw("ruler"), "model": model}), "utf-8")
    assert main(["report", *names]) == 0
    out, err = capsys.readouterr()
    assert err == "judgeq: RULER: b<i>.json cannot be compared with a.json: model <b>two, not one.\n"
    assert "**Not to be compared**\n\n- RULER: b&lt;i&gt;.json cannot be compared" in out
    page = to_html([read_results(Path(name)) for name in names])
    assert "b&lt;i&gt;.json cannot be compared with a.json: model &lt;b&gt;two" in page
