"""The command line: one object on standard output, one sentence and exit code 2 for bad input."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from judgeq.cache.layers import STEP
from judgeq.cli import main
from judgeq.data import planted, wiki
from judgeq.data.articles import Article
from judgeq.methods import question_methods
from judgeq.models.language_model import LanguageModel
from judgeq.models.loading import load
from judgeq.soft_tokens.soft_tokens import SoftTokens
from judgeq.soft_tokens.tensors import MemoryTokens
from tests.fixtures import TEXT, build_model
from tests.pdf_files import pdf

QUESTION = "What does a ship pay?"
FIELDS = set(
    "model method budget prompt_tokens kept_rows kv_bytes kv_bytes_at_end full_kv_bytes answer ttft_s "
    "decode_tokens_per_s finish notices peak_rows prefill_s query_aware memory_rows lost_share precision "
    "sources".split()
)
Answer = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A local model folder, soft tokens for it and a document, as a user would have them."""
    root = tmp_path_factory.mktemp("cli")
    build_model().save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "model")
    lm: LanguageModel = load(str(root / "model"))
    SoftTokens.initialise(lm, torch.arange(40, 44)).save_pretrained(root / "judge")
    (root / "doc.txt").write_text("The harbour lies in the north. Every ship pays 3 crowns at the gate. " * 6)
    return root


def ask(folder: Path, *options: str, document: str = "doc.txt", question: str = QUESTION) -> int:
    where = ["--model", str(folder / "model"), "--tokens", str(folder / "judge"), "--max-new-tokens", "6"]
    return main(["ask", "--document", str(folder / document), "--question", question, *where, *options])


@pytest.fixture
def answer(folder: Path, capsys: pytest.CaptureFixture[str]) -> Answer:
    """`judgeq ask --json -` with further options, read back."""

    def asked(*options: str, **how: str) -> dict[str, Any]:
        assert ask(folder, *options, "--json", "-", **how) == 0
        return json.loads(capsys.readouterr().out)

    return asked


def test_help_does_not_wait_for_torch() -> None:
    program = (
        "import sys; from judgeq.cli import _parser; _parser().format_help(); "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_memory_rows(folder: Path, answer: Answer, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert ask(folder, "--memory", "3") == 2
    assert "have no memory tokens" in capsys.readouterr().err
    plain = SoftTokens.from_pretrained(folder / "judge")
    memory = MemoryTokens(plain.weights.embeddings[:3].clone())
    with_memory = SoftTokens(replace(plain.weights, memory=memory), replace(plain.config, memory=3))
    with_memory.save_pretrained(tmp_path / "memory")
    for method in ("judgeq", "snapkv:recent=0"):
        options = ["--budget", "16", "--method", method, "--memory", "3"]
        found = answer(*options, "--tokens", str(tmp_path / "memory"))
        assert (found["kept_rows"], found["memory_rows"]) == ([[13, 13]] * 4, 3)
    assert main(["tokens", "show", str(tmp_path / "memory")]) == 0
    assert "4 soft tokens and 3 memory tokens of" in capsys.readouterr().out


def test_json_on_standard_output_is_one_object_and_nothing_else(answer: Answer) -> None:
    result = answer("--budget", "16")
    assert set(result) == FIELDS
    assert result["kept_rows"] == [[16, 16]] * 4
    assert result["kv_bytes"] == 4 * 16 * 256
    assert result["full_kv_bytes"] == 4 * result["prompt_tokens"] * 256
    assert answer("--budget", "16", "--dtype", "bfloat16")["kv_bytes"] == 4 * 16 * 256 / 2


def test_the_answer_and_its_cost_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = ["--json", str(folder / "out.json"), "--html", str(folder / "kept.html")]
    assert ask(folder, "--budget", "16", *places) == 0
    assert "crowns" in (folder / "kept.html").read_text()
    out, err = capsys.readouterr()
    assert out.strip() == json.loads((folder / "out.json").read_text())["answer"].strip()
    assert "judgeq: 16 of" in err


def test_pages_of_a_pdf_that_are_left_out_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "scan.pdf").write_bytes(pdf("The ferry leaves at noon.", ""))
    assert ask(folder, "--budget", "16", "--json", "-", document="scan.pdf") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert "judgeq: scan.pdf has no text on page 2 of 2" in err


@pytest.mark.parametrize("method", question_methods())
def test_every_method_has_a_name_here(answer: Answer, method: str) -> None:
    assert answer("--method", method, "--budget", "0.5")["method"] == method


def test_one_reading_several_questions(folder: Path, answer: Answer, capsys: pytest.CaptureFixture[str]) -> None:
    other = "Where is the <harbour>?"
    options = ["--budget", "16", "--chunk", "30", "--html", str(folder / "both.html"), "--question", other]
    both = answer(*options)["answers"]
    for question, found in zip((QUESTION, other), both, strict=True):
        assert found.pop("question") == question
        alone = answer("--budget", "16", question=question)
        assert set(found) == FIELDS
        assert (found["answer"], found["kept_rows"]) == (alone["answer"], alone["kept_rows"])
    page = (folder / "both.html").read_text()
    assert page.count("crowns") > 1
    assert "&lt;harbour&gt;" in page
    assert ask(folder, "--question", other) == 0
    out, err = capsys.readouterr()
    assert [line for line in out.splitlines() if line.startswith("> ")] == [f"> {QUESTION}", f"> {other}"]
    assert err.count("judgeq: 128 of") == 2


def test_a_saved_document(folder: Path, answer: Answer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = str(tmp_path / "read")
    first = answer("--budget", "16", "--save-document", saved)
    again = answer("--budget", "16", document=saved)
    assert (first["answer"], first["kept_rows"]) == (again["answer"], again["kept_rows"])
    (tmp_path / "read" / "rows.safetensors").write_bytes(b"")
    assert ask(folder, document=saved) == 2
    assert "does not hold a readable document" in capsys.readouterr().err


def test_evicting_before_the_question(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(folder, "--budget", "16", "--json", "-", "--query-agnostic") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["query_aware"] is False
    assert "query-agnostic" in err


def test_layers_and_heads_can_have_budgets_of_their_own(answer: Answer) -> None:
    kept = answer("--budget", "16", "--pool", "1", "--allocation", "adakv", "--group", "max")["kept_rows"]
    assert [sum(heads) for heads in kept] == [32] * 4
    assert kept != [[16, 16]] * 4


def test_rows_can_be_judged_again_or_stored_in_few_bits(answer: Answer, tmp_path: Path) -> None:
    options = ["--budget", "16", "--max-new-tokens", "60"]
    several = ["--question", "Who sleeps?", "--chunk", "40", "--save-document", str(tmp_path / "read")]
    plain = answer(*options)
    changes = (["--evict-every", "2"], ["--row-bits", "8"])
    bounded, rounded = found = [answer(*options, *more) for more in changes]
    assert plain["kv_bytes"] == bounded["kv_bytes"] > 2 * rounded["kv_bytes"]
    assert bounded["kv_bytes_at_end"] <= 4 * (16 + 2 + STEP) * 256 < plain["kv_bytes_at_end"]
    for more, alone in zip(changes, found, strict=True):
        first, _ = answer(*options, *more, *several)["answers"]
        for name in ("answer", "kept_rows", "kv_bytes", "kv_bytes_at_end"):
            assert first[name] == alone[name]
    rounded = answer(*options, "--row-bits", "8", "--query-agnostic")
    assert rounded["kv_bytes"] < sum(map(sum, rounded["kept_rows"])) * 128


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budget", "0"], "budget is 0 rows"),
        (["--budget", "-5"], "budget is -5 rows"),
        (["--budget", "1.5"], "share of 1.5"),
        (["--budget", "lots"], "not a number"),
        (["--method", "magic"], "no method 'magic'"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--tokens", "no/such-tokens"], "no/such-tokens"),
        (["--max-new-tokens", "0"], "max_new_tokens"),
        (["--temperature", "-1"], "temperature"),
        (["--evict-every", "0"], "evict_every is 0"),
        (["--evict-every", "4", "--method", "oracle"], "cannot evict again"),
        (["--evict-every", "4", "--row-bits", "8"], "not both"),
        (["--row-bits", "5"], "bits is 5"),
        (["--pool", "4"], "pool is 4"),
        (["--allocation", "magic"], "'allocation=magic' is not a choice"),
        (["--allocation", "profile"], "soft tokens carry none"),
        (["--group", "median"], "'group=median' is not a choice"),
        (["--method", "random", "--group", "max"], "no option 'group'"),
        (["--json", "no/such/folder/out.json"], "cannot be written"),
        (["--chunk", "0"], "chunk is 0"),
        (["--question", "Wer zahlt f\udcfcr die Miete?"], "question has half a character"),
        (["--answer-prefix", "\ud83d"], "answer prefix has half a character"),
        (["--method", "\udcfc"], "There is no method"),
        (["--max-new-tokens", "4096"], "ask for a shorter answer (max_new_tokens)"),
        (["--query-agnostic", "--question-first"], "leave out --question-first"),
        (["--query-agnostic", "--evict-every", "4"], "and --evict-every"),
        (["--query-agnostic", "--method", "laq"], "no question yet"),
    ],
)
def test_bad_options_get_one_sentence_and_exit_code_2(
    folder: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = sorted(folder.rglob("*"))
    assert ask(folder, *options) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "question", "said"),
    [
        (b"", QUESTION, "is empty"),
        (b"\x89PNG\x00", QUESTION, "not a text file"),
        (b"Fine.", " ", "question is empty"),
        (b"word " * 20_000, QUESTION, "4,096 positions"),
        (None, QUESTION, "cannot be read"),
    ],
)
def test_bad_documents_get_one_sentence_and_exit_code_2(
    folder: Path, content: bytes | None, question: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (folder / "bad.txt").write_bytes(content)
    name = "bad.txt" if content is not None else "missing.txt"
    assert ask(folder, document=name, question=question) == 2
    out, err = capsys.readouterr()
    assert (said in err, out.strip()) == (True, "")


def test_a_model_that_needs_more_memory_than_there_is_gets_one_sentence_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("judgeq.inference.api.prefill_with_lookahead", lambda *_, **__: torch.empty(1 << 50))
    assert ask(folder) == 2
    assert "the memory is not enough: take a shorter document" in capsys.readouterr().err


def test_soft_tokens_of_another_model_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads((folder / "judge" / "judgeq_config.json").read_text())
    other = folder / "other"
    other.mkdir()
    shutil.copy(folder / "judge" / "soft_tokens.safetensors", other)
    (other / "judgeq_config.json").write_text(json.dumps({**config, "base_model": "somebody-else"}))
    assert ask(folder, "--tokens", str(other)) == 2
    assert "trained for somebody-else" in capsys.readouterr().err


@pytest.fixture
def articles(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuple(
        Article(f"Town {number}", f"Town {number} has {number} towers. Its mayor sings.", "") for number in range(400)
    )
    for module in (wiki, planted):
        monkeypatch.setattr(module, "wiki_articles", lambda held_out: found)


@pytest.mark.usefixtures("articles")
def test_train_then_use_then_evaluate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = ["--model", str(folder / "model")], str(folder / "trained")
    sizes = ["--examples", "4", "--min-tokens", "60", "--max-tokens", "90"]
    recipe = ["--data", "wiki", "--response-tokens", "6", "--epochs", "1", "--n", "4", "--batch", "2"]
    assert main(["train", *model, *sizes, *recipe, "--held-out", "2", "--out", out, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["examples"] == 4
    assert ask(folder, "--tokens", out, "--json", "-") == 0
    capsys.readouterr()
    methods = ("judgeq", "judgeq:pool=7:group=max", "snapkv", "random")
    options = ["--tokens", out, "--methods", ",".join(methods), "--budgets", "32,0.5"]
    assert main(["evaluate", "hit-rate", *model, *sizes, *options, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [(row["method"], row["budget"], row["n"]) for row in result["rows"]] == [
        (method, budget, 4) for method in methods for budget in (32, 0.5)
    ]
    assert {row["task"] for row in result["rows"]} == {"hit-rate/wiki"}
    assert all(0 < row["score"] <= 1 and len(row["per_layer"]) == 4 for row in result["rows"])
    scores = [row["score"] for row in result["rows"]]
    assert scores[:2] != scores[2:4]


def evaluate(folder: Path, kind: str, *options: str) -> int:
    where = ["--model", str(folder / "model"), "--tokens", str(folder / "judge")]
    return main(["evaluate", kind, *where, *options])


@pytest.mark.usefixtures("articles")
def test_answers_of_documents_that_were_evicted_before_their_questions(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--question", "unknown", "--methods", "judgeq,kvzip", "--budgets", "0.25", "--json", "-"]
    for kind, more, label in (
        ("answers", ["--data", "facts", "--lengths", "500", "--examples", "2", "--max-new-tokens", "4"], "facts"),
        ("jsonl", ["--data", str(folder / "ask.jsonl")], "ask"),
    ):
        (folder / "ask.jsonl").write_text(json.dumps({"context": TEXT, "question": "Who?", "answers": ["I"]}))
        assert evaluate(folder, kind, *options, *more) == 0
        result = json.loads(capsys.readouterr().out)
        assert {row["task"].partition("@")[0] for row in result["rows"]} == {f"{label}-unknown"}
        assert {row["method"] for row in result["rows"]} == {"judgeq", "kvzip"}


@pytest.mark.usefixtures("articles")
def test_answers_of_every_task_method_and_budget(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", "facts,keys", "--lengths", "500,700", "--examples", "2", "--max-new-tokens", "4"]
    measured = ["--methods", "full,judgeq:group=max,snapkv", "--budgets", "64,128", "--per", "1000"]
    assert evaluate(folder, "answers", *options, *measured, "--json", "-") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["complete"], result["asked"], result["answered"], result["skipped"]) == (True, 8, 8, {})
    assert result["versions"]["judgeq"]
    command = result["settings"]["command"]
    assert command.startswith("python -m judgeq evaluate answers --model ")
    assert command.endswith("--budgets 64,128 --per 1000")
    assert {row["against"] for row in result["differences"]} == {"snapkv"}
    at_lengths = product(("facts", "keys"), (500, 700), ("", "/first", "/last"))
    tasks = [f"{name}@{length}{kind}" for name, length, kind in at_lengths]
    tasks += ["facts", "keys"]  # averages over both lengths
    asked = [("full", 1.0), *product(("judgeq:group=max", "snapkv"), (0.064, 0.128))]
    found = [(row["method"], row["budget"], row["task"]) for row in result["rows"]]
    assert sorted(found) == sorted((*each, task) for each in asked for task in tasks)
    for row in result["rows"]:
        sizes = {"": 4, "@": 2, "@/": 1}
        assert row["n"] == sizes["".join(sign for sign in "@/" if sign in row["task"])]
        assert row["metric"] == ("all" if "@" in row["task"] else "average")
        assert row["interval"][0] <= row["score"] <= row["interval"][1]
        assert row["gap_closed"] is None  # a random model is never right


def test_a_file_of_ones_own_and_its_metrics(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"context": "The harbour lies in the north.", "question": QUESTION, "answers": ["3 crowns"]}
    lines = [asked, {**asked, "metric": "f1", "max_new_tokens": 3}, {"context": "No question."}]
    (folder / "own.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = ["--data", str(folder / "own.jsonl"), "--methods", "full,snapkv", "--budgets", "16"]
    assert evaluate(folder, "jsonl", *options) == 2
    assert "line 3" in capsys.readouterr().err
    assert evaluate(folder, "jsonl", *options, "--skip-bad", "--json", str(folder / "own.json")) == 0
    out, err = capsys.readouterr()
    assert "lines left out: 1" in err
    assert "own: all, n = 1" in out
    assert "own: f1, n = 1" in out
    rows = json.loads((folder / "own.json").read_text())["rows"]
    assert [(row["method"], row["task"], row["metric"]) for row in rows] == [
        (method, "own", metric) for metric in ("all", "f1") for method in ("full", "snapkv")
    ]


def test_a_benchmark_goes_on_where_it_was_stopped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, items = folder / "bench.json", folder / "bench.items.jsonl"
    options = ["--tasks", "qasper", "--longbench-files", "tests/data/longbench", "--examples", "2"]
    options += ["--methods", "full,snapkv", "--budgets", "32", "--question", "both", "--json", str(result)]
    assert evaluate(folder, "longbench", *options, "--minutes", "0") == 2
    assert "has answered nothing" in capsys.readouterr().err
    assert not result.exists()
    assert evaluate(folder, "longbench", *options) == 0
    whole, answers = json.loads(result.read_text()), items.read_bytes()
    assert whole["complete"]
    assert {row["question_first"] for row in whole["rows"]} == {False, True}
    assert [row["method"] for row in whole["moved"]] == ["full", "snapkv"]
    assert evaluate(folder, "longbench", *options, "--minutes", "0") == 0
    assert json.loads(result.read_text()) == whole
    assert items.read_bytes() == answers


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("answers", ["--data", "magic"], "no data 'magic': choose facts, facts-begun, facts-led, keys"),
        ("answers", ["--data", "missing.jsonl"], "missing.jsonl"),
        ("answers", ["--lengths", "long"], "length 'long' is not a number"),
        ("answers", ["--lengths", "500,90000"], "articles have"),
        ("answers", ["--lengths", "500,4500"], "reads at most"),
        ("answers", ["--examples", "0"], "examples is 0"),
        ("answers", ["--max-new-tokens", "0"], "max_new_tokens is 0"),
        ("answers", ["--budgets", "0.1", "--per", "1000"], "Budgets with --per are rows"),
        ("answers", ["--budgets", "2000", "--per", "1000"], "share of 2.0"),
        ("answers", ["--budgets", "64", "--per", "0"], "per is 0"),
        ("answers", ["--methods", "full,judgeq:wings=2"], "no option 'wings'"),
        ("hit-rate", ["--methods", "judgeq:pool=4"], "pool is 4"),
        ("hit-rate", ["--data", "magic"], "no data 'magic'"),
        ("hit-rate", ["--examples", "0"], "examples is 0"),
        ("jsonl", ["--data", "missing.jsonl"], "missing.jsonl"),
        ("ruler", ["--tasks", "magic"], "magic"),
        ("ruler", ["--lengths", "100"], "at least 200"),
        ("ruler", ["--examples", "0"], "examples is 0"),
        ("ruler", ["--ruler-files", "missing"], "missing is not a folder"),
        ("ruler", ["--minutes", "-1"], "minutes is -1"),
        ("niah", ["--depths", "0,101"], "depth '101' is not a percentage"),
        ("niah", ["--budgets", "none"], "not a number"),
        ("longbench", ["--tasks", "qasper,magic"], "magic"),
        ("longbench", ["--tasks", "qasper", "--longbench-files", "tests"], "qasper"),
    ],
)
@pytest.mark.usefixtures("articles")
def test_what_cannot_be_measured_gets_one_sentence(
    folder: Path, kind: str, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder, kind, *options) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in err
    assert not out


def test_soft_tokens_travel_to_peft_and_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge, prompt, again = (str(folder / name) for name in ("judge", "prompt", "again"))
    assert main(["tokens", "show", judge, "--json", "-"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["n"], shown["tensors"]) == (4, {"soft_tokens": [4, 64]})
    assert main(["tokens", "show", judge]) == 0
    assert capsys.readouterr().out.startswith(f"4 soft tokens of {folder / 'model'}: embeddings\n")
    assert main(["tokens", "export-peft", judge, "--out", prompt, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == prompt
    options = ["--model", str(folder / "model"), "--out", again]
    assert main(["tokens", "import-peft", prompt, *options, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 4
    assert ask(folder, "--tokens", again, "--json", "-") == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "model"], "is a model and not soft tokens"),
        (["push", "judge", "no-owner"], "is not an id of the Hub"),
        (["push", "judge", "no-owner", "--base-model", "org/tiny"], "'no-owner' is not a valid id"),
        (["push", "judge", "me/judge", "--base-model", "org/tiny"], "there is no token"),
        (["export-peft", "nowhere", "--out", "x"], "neither a folder here"),
    ],
)
def test_what_cannot_be_shared_gets_one_sentence(
    folder: Path,
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = sorted(folder.rglob("*"))
    assert main(["tokens", words[0], str(folder / words[1]), *words[2:]]) == 2
    out, err = capsys.readouterr()
    assert (said in err, out) == (True, "")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    "verb",
    [
        *([], ["ask"], ["train"], ["report"], ["bench"], ["ablation"]),
        *(["evaluate", kind] for kind in ("hit-rate", "answers", "jsonl", "ruler", "niah", "longbench")),
        *(["tokens", kind] for kind in ("show", "push", "export-peft", "import-peft")),
    ],
    ids=" ".join,
)
def test_every_verb_has_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*verb, "--help"])
    assert done.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_an_argument_in_latin_1_is_refused_and_a_file_of_such_a_name_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = os.fsencode(folder)
    (folder / os.fsdecode(b"f\xfcr.jsonl")).write_text(
        json.dumps({"context": "Mara pays.", "question": "Who?", "answers": ["Mara"]}), encoding="utf-8"
    )
    where = [b"--model", path + b"/model"]
    asked = [b"--document", path + b"/doc.txt", b"--method", b"snapkv", b"--question", b"f\xfcr?"]
    # as Python decodes the words of a command
    assert main([os.fsdecode(word) for word in (b"ask", *where, *asked)]) == 2
    out, err = capsys.readouterr()
    assert (out, "question has half a character" in err) == ("", True)
    data = [b"--data", path + b"/f\xfcr.jsonl", b"--methods", b"full", b"--json", path + b"/result.json"]
    assert main([os.fsdecode(word) for word in (b"evaluate", b"jsonl", *where, *data)]) == 0
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert result["complete"]
    assert "f\udcfcr.jsonl" in result["settings"]["data"]
