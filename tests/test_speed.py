"""The bench: who takes part, how ratios and rooflines are computed, what stands in its file. Nothing is timed here."""

from __future__ import annotations

import json
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import kvpress_server
from benchmarks import speed as beside
from benchmarks.peers import KVPRESS, Server, serving
from judgeq.attention.registry import ATTENTION
from judgeq.cli import main
from judgeq.config import Budget
from judgeq.errors import InputError, ModelError
from judgeq.evaluation import speed
from judgeq.evaluation.random_weights import random_model, random_soft_tokens
from judgeq.evaluation.report import speed_from
from judgeq.evaluation.report.figures import speed_figure
from judgeq.evaluation.report.tables import facts_table, speed_table
from judgeq.evaluation.speed import (
    AGAIN,
    FULL,
    PLAIN,
    TOGETHER,
    Again,
    Ours,
    Plain,
    StepTiming,
    peak_bound,
    roofline,
    rows_of,
    run_rounds,
    weight_bytes,
)
from judgeq.inference.plan import Plan
from judgeq.methods import Full, SnapKV
from judgeq.models.language_model import LanguageModel
from judgeq.models.shapes import SHAPES

OTHER_PYTHON = os.environ.get("JUDGEQ_KVPRESS_PYTHON", "")
IDS = torch.randint(3, 300, (1, 100), generator=torch.Generator().manual_seed(1))


class Told:
    """A contender whose times are known."""

    def __init__(self, label: str, rounds: list[tuple[float, float]], rows: int | None = None) -> None:
        self.label = self.method = label
        self.budget: Budget = 1.0
        self.turns: list[tuple[int, int]] = []
        self.rounds, self.rows = rounds, rows

    def take(self, ids: Tensor, tokens: int) -> StepTiming:
        self.turns.append((ids.shape[1], tokens))
        first, token = self.rounds[max(0, len(self.turns) - 2)]  # the warm-up comes first
        return StepTiming(first, token, self.rows, self.rows, self.rows)


def told() -> list[Told]:
    return [
        Told(PLAIN, [(1.0, 0.1), (2.0, 0.4), (1.0, 0.1)], 1000),
        Told(FULL, [(1.1, 0.2), (2.0, 0.2), (1.3, 0.3)], 1000),
        Told("snapkv@9", [(1.2, 0.1), (3.0, 0.05), (1.1, 0.1)], 100),
    ]


def test_ratios_are_medians_of_what_happens_within_a_round() -> None:
    contenders = told()
    times = run_rounds(contenders, IDS, 7, 3)
    assert contenders[0].turns == [(64, 1), *[(100, 7)] * 3]
    rows = {row["label"]: row for row in rows_of(times, 500, {"snapkv@9": 200.0})}
    snapkv = rows["snapkv@9"]
    assert snapkv["first_s"] == 1.2
    assert snapkv["first_over_plain"] == 1.2  # of 1.2, 1.5, 1.1
    assert snapkv["token_over_plain"] == 1.0  # of 1, 1/8, 1
    assert snapkv["speedup"] == 3.0  # of 2, 4, 3
    assert snapkv["roofline"] == 2.5 == (500 + 1000) / (500 + 100) == roofline(100, 200, 20)
    assert snapkv["of_roofline"] == 1.2
    assert snapkv["peak_over_bound"] == 0.5
    assert rows[FULL]["roofline"] == rows[FULL]["speedup"] == 1.0
    assert "peak_over_bound" not in rows[FULL]


def test_what_nobody_counted_is_left_out() -> None:
    rows = rows_of(run_rounds([*told(), Told("kvpress", [(1, 1)] * 3)], IDS, 1, 3), 500, {})
    assert set(rows[-1]) >= {"first_s", "token_s", "first_over_plain", "speedup"}
    uncounted = "peak_bytes kv_bytes row_bytes roofline of_roofline device_bytes"
    assert not set(rows[-1]) & set(uncounted.split())


def test_every_round_is_begun_by_another() -> None:
    order: list[str] = []
    contenders = told()
    for each in contenders:
        take = each.take
        each.take = lambda ids, tokens, each=each, take=take: (order.append(each.label), take(ids, tokens))[1]  # type: ignore[method-assign]
    done: list[tuple[int, int]] = []
    run_rounds(contenders, IDS, 1, 3, lambda *at: done.append(at))
    a, b, c = (each.label for each in contenders)
    assert order == [a, b, c, a, b, c, b, c, a, c, a, b]
    assert done == [(at, 9) for at in range(1, 10)]


def test_weights_count_once_and_embeddings_only_where_they_are_read() -> None:
    tied = random_model("tiny", device="cpu").model
    layers = sum(each.numel() for name, each in tied.named_parameters() if "embed" not in name)
    assert weight_bytes(tied) == 4 * (layers + 300 * 64)
    SHAPES["loose"] = {**SHAPES["tiny"], "tie_word_embeddings": False}
    try:
        loose = random_model("loose", device="cpu").model
    finally:
        del SHAPES["loose"]
    assert weight_bytes(loose) == weight_bytes(tied)
    assert sum(each.numel() for each in loose.parameters()) == layers + 2 * 300 * 64


def test_our_bytes_are_those_of_the_rows(lm: LanguageModel) -> None:
    a_row = 2 * 16 * 2 * 4  # heads, numbers, keys and values, bytes
    taken = Ours(lm, "snapkv@9", "snapkv", 9, lambda length: [Plan(SnapKV(window=4), 9)]).take(IDS, 6)
    assert taken.peak_bytes == (4 * 9 + 100) * a_row == peak_bound(lm, 100, 0, 9)
    assert taken.row_bytes == 4 * (9 + 3) * a_row
    assert taken.kv_bytes > 4 * (9 + 6) * a_row
    assert taken.device_bytes is None
    full = Ours(lm, FULL, FULL, 1.0, lambda length: [Plan(Full(), length)]).take(IDS, 6)
    plain = Plain(lm).take(IDS, 6)
    assert full.row_bytes == plain.row_bytes == 4 * 103 * a_row
    assert plain.kv_bytes == 4 * 106 * a_row
    assert plain.peak_bytes == 4 * 100 * a_row


def test_the_next_question_reads_its_own_tokens(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    forward = type(lm.model).forward

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids = kwargs.get("input_ids", args[0] if args else None)
        read.append((kwargs["inputs_embeds"] if ids is None else ids).shape[1])
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(lm.model), "forward", noted)
    arguments = (lm, AGAIN, AGAIN, 9, lambda length: [Plan(SnapKV(window=4), 9)])
    again = Again(*arguments)
    held = again.held(IDS)
    assert torch.equal(held.ids, IDS[:, :4])
    taken = again.take(IDS, 2)
    assert read == [4, 4, 96, 1, 1], "outside the time, outside the time, the question's, the answer's"
    assert taken.row_bytes == Ours(*arguments).take(IDS, 2).row_bytes
    assert again.held(IDS[:, :64]) is None


def test_plain_transformers_leaves_the_model_alone(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    forward = type(lm.model).forward

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(self.config._attn_implementation)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(lm.model), "forward", noted)
    Plain(lm).take(IDS, 2)
    assert seen == ["sdpa"] * 3
    assert lm.model.config._attn_implementation == ATTENTION
    monkeypatch.setattr(speed, "next_logits", None)
    with pytest.raises(TypeError):
        Plain(lm).take(IDS, 2)
    assert lm.model.config._attn_implementation == ATTENTION


@pytest.mark.parametrize(("quantization", "share"), [("8bit", 0.4), ("4bit", 0.3)])
def test_random_weights_in_few_bits_say_nearly_the_same(quantization: str, share: float) -> None:
    full, small = (random_model("tiny", "cpu", quantization=given) for given in (None, quantization))
    assert small.model.get_memory_footprint() < share * full.model.get_memory_footprint()
    with torch.no_grad():
        ours, theirs = (lm.model(IDS).logits.flatten() for lm in (small, full))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.9
    with pytest.raises(ModelError, match="8bit or 4bit"):
        random_model("tiny", "cpu", quantization="3bit")


def test_shapes_are_what_their_names_say() -> None:
    lm = random_model("tiny", device="cpu", seed=3)
    again = random_model("tiny", device="cpu", seed=3)
    assert (lm.geometry.layers, lm.geometry.kv_heads, lm.name) == (4, 2, "tiny (random weights)")
    for ours, theirs in zip(lm.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert random_soft_tokens(lm, 5, 0).weights.embeddings.shape == (5, 64)
    with pytest.raises(ModelError, match="no shape 'huge': choose one of tiny, smollm2-135m"):
        random_model("huge")


# The command


def bench(*options: str) -> int:
    few = ["--prompt-tokens", "120", "--decode-tokens", "3", "--rounds", "2", "--budgets", "16,0.5"]
    return main(["bench", "--random-weights", "tiny", *few, *options])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    methods = "full,judgeq,snapkv:allocation=adakv"
    assert bench("--methods", methods, "--json", str(path)) == 0
    return path


def test_every_method_is_measured_at_every_budget(measured: Path) -> None:
    value = json.loads(measured.read_text("utf-8"))
    rows = {row["label"]: row for row in value["rows"]}
    names = ("judgeq", "snapkv:allocation=adakv")
    asked = [f"{name}@{budget}" for name in names for budget in ("16", "0.5")]
    assert list(rows) == [PLAIN, FULL, *asked, TOGETHER, AGAIN]
    assert value["settings"]["prompt_tokens"] == 120
    assert value["settings"]["command"].startswith("python -m judgeq bench --random-weights tiny")
    here = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    assert value["machine"]["device"] in ("cpu", here)
    a_row = 2 * 16 * 2 * 4
    for row in value["rows"]:
        assert row["first_s"] > 0
        assert row["of_roofline"] == pytest.approx(row["speedup"] / row["roofline"], rel=1e-3)
    assert rows["judgeq@16"]["row_bytes"] == (4 * 16 + 6) * a_row
    assert rows["judgeq@16"]["peak_over_bound"] <= 1.05
    weights, full = value["weight_bytes"], rows[FULL]["row_bytes"]
    assert rows["judgeq@16"]["roofline"] == pytest.approx((weights + full) / (weights + (4 * 16 + 6) * a_row), rel=1e-4)


def test_the_table_on_the_screen_has_a_line_for_everyone(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--methods", "snapkv,streamingllm") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 2 + 2 * 2 + 2
    assert lines[-2].startswith(TOGETHER)
    assert lines[-1].startswith(AGAIN)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rounds", "0"], "rounds"),
        (["--prompt-tokens", "4090"], "at most 4,064 tokens before its answer"),
        (["--random-weights", "huge"], "no shape 'huge'"),
        (["--methods", "magic"], "magic"),
        (["--methods", "laq"], "random weights write none"),
        (["--methods", "snapkv:allocation=profile"], "profile"),
    ],
)
def test_what_cannot_be_measured(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*options) == 2
    assert said in capsys.readouterr().err


def test_one_memory_serves_as_many_users_as_their_rows_allow(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    few = ["--full-users", "2", "--prompt-tokens", "60", "--decode-tokens", "4", "--rounds", "1"]
    asked = ["--methods", "full,snapkv,judgeq:allocation=adakv", "--budgets", "12"]
    assert main(["bench", "users", "--random-weights", "tiny", *few, *asked, "--json", str(path)]) == 0
    value = json.loads(path.read_text("utf-8"))
    a_row = 2 * 16 * 2 * 4  # of one layer
    assert value["memory_bytes"] == 2 * 4 * (60 + 4) * a_row
    rows = {row["label"]: row for row in value["rows"]}
    # one more user's rows, beside a whole layer of the last prompt, would not fit
    fitting = (2 * 4 * 64 - 48) // (4 * 16)
    assert {label: row["users"] for label, row in rows.items()} == {
        "full": 2,
        "snapkv@12": fitting,
        "judgeq:allocation=adakv@12": fitting,
    }
    for row in value["rows"]:
        assert row["rows_bytes"] <= value["memory_bytes"]
        assert row["tokens_per_s"] == pytest.approx(row["users"] / row["step_s"], rel=1e-3)
        whole = row["read_s"] + 4 * row["step_s"]
        assert row["answers_per_s"] == pytest.approx(row["users"] / whole, rel=1e-3)


# The report


def test_the_report_shows_a_bench_beside_results(measured: Path, tmp_path: Path) -> None:
    page, text = tmp_path / "page.html", tmp_path / "tables.md"
    scores = Path(__file__).parent / "data" / "results" / "ruler.json"
    assert main(["report", str(scores), str(measured), "--html", str(page), "--markdown", str(text)]) == 0
    html, markdown = page.read_text("utf-8"), text.read_text("utf-8")
    for shown in (html, markdown):
        assert "Speed and memory: tiny (random weights)" in shown
        assert "judgeq@16" in shown
    assert 'href="#speed-0"' in html
    assert main(["report", str(measured), "--markdown", str(text)]) == 0
    assert "ruler" not in text.read_text("utf-8")


def test_the_figure_and_the_tables_hold_the_file_s_numbers() -> None:
    row = {"label": "a<b>@9", "first_s": 1.5, "token_s": 0.04, "first_over_plain": 1.02, "speedup": 1.25}
    more = {"roofline": 1.3, "of_roofline": 0.9615, "peak_bytes": 2_500_000, "row_bytes": 1_000_000}
    value = {"model": "m", "rows": [{**row, **more}, {**row, "label": "peer"}], "machine": {"device": "cpu"}}
    file = speed_from(value, "bench.json", "bench.json")
    table = speed_table(file)
    shown = dict(zip(table.columns, (cell.text for cell in table.lines[0][1]), strict=True))
    assert shown["over transformers"] == "+2.0 %"
    assert (shown["First token"], shown["A later token"], shown["Reached"]) == ("1.50 s", "40.0 ms", "96 %")
    assert shown["Peak of rows"] == "2.5 MB"
    assert "GPU memory" not in shown  # nobody has measured it
    assert [cell.text for cell in table.lines[1][1]].count("–") == 4
    figure = speed_figure(file)
    assert [list(trace.x) for trace in figure.data] == [[1.25], [1.3]]
    assert "<b>" not in figure.data[0].y[0]
    assert ("machine · device", "cpu") in [(name, cells[0].text) for name, cells in facts_table(file).lines]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rows": []}, "rows: tuple should have at least 1 item"),
        ({"model": 3}, "model: this should be text"),
        ({"rows": [{}]}, "row 1, label: field required"),
        ({"rows": [{"label": "a", "first_s": -1}]}, "row 1, first_s: input should be greater than 0"),
    ],
)
def test_a_file_that_is_no_bench_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        speed_from({"model": "m", "rows": [], **change}, "x.json", "x.json")


# kvpress


def server(code: str, tmp_path: Path) -> str:
    """An interpreter that runs this instead of the script it is given."""
    script = tmp_path / "python"
    body = tmp_path / "body.py"
    body.write_text(code, encoding="utf-8")
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{body}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return str(script)


ECHO = """
import json, sys
print(json.dumps({"kvpress": "0.5.5"}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({"first_s": len(asked["ids"]), "token_s": asked["budget"]}), flush=True)
"""
posix = pytest.mark.skipif(os.name != "posix", reason="the stand-in is a POSIX script")


def served(python: str, folder: Path) -> AbstractContextManager[Server]:
    return serving(KVPRESS, python, kvpress_server.__file__, str(folder))


@posix
def test_kvpress_waits_for_its_turn_and_answers(tmp_path: Path) -> None:
    with served(server(ECHO, tmp_path), tmp_path) as there:
        assert there.about == {"kvpress": "0.5.5"}
        contender = beside.Peer(there, "kvpress snapkv@9", beside.SNAPKV, 9, 9)
        assert contender.take(IDS, 3) == StepTiming(100, 9)
        assert contender.take(IDS[:, :5], 3) == StepTiming(5, 0)  # too short for its budget


@posix
def test_kvpress_is_measured_beside_the_methods(make_lm: Any, tmp_path: Path) -> None:
    lm, path = make_lm(), tmp_path / "bench.json"
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    words = [
        "--python",
        server(ECHO.replace('asked["budget"]', "1"), tmp_path),
        "--model",
        str(tmp_path / "model"),
    ]
    few = ["--methods", "snapkv", "--budgets", "16,0.5", "--prompt-tokens", "80", "--decode-tokens", "2"]
    assert beside.main([*words, *few, "--rounds", "1", "--json", str(path)]) == 0
    value = json.loads(path.read_text("utf-8"))
    theirs = [beside.ALONE, f"{beside.SNAPKV}@16", f"{beside.SNAPKV}@0.5"]
    assert [row["label"] for row in value["rows"]] == [PLAIN, FULL, "snapkv@16", "snapkv@0.5", AGAIN, *theirs]
    assert [row["first_s"] for row in value["rows"][-3:]] == [80, 80, 80]
    assert value["kvpress"] == {"kvpress": "0.5.5"}
    assert value["settings"]["command"].startswith("python -m benchmarks.speed --model")


@posix
@pytest.mark.parametrize(
    ("code", "said"),
    [("raise SystemExit(3)", "has no kvpress: install"), ("1 / 0", "failed"), ("", "not a working Python")],
)
def test_an_environment_that_fails_is_told_in_one_sentence(tmp_path: Path, code: str, said: str) -> None:
    python = server(code, tmp_path) if code else "/nowhere/python"
    with pytest.raises(InputError, match=said), served(python, tmp_path):
        pass


@pytest.mark.skipif(not OTHER_PYTHON, reason="JUDGEQ_KVPRESS_PYTHON is not set: name a Python with kvpress")
def test_kvpress_itself_answers(make_lm: Any, tmp_path: Path) -> None:
    make_lm().model.save_pretrained(tmp_path)
    with served(OTHER_PYTHON, tmp_path) as there:
        taken = beside.Peer(there, "kvpress", beside.SNAPKV, 70, 70).take(IDS, 2)
    assert taken.first_s > 0
    assert taken.token_s > 0
