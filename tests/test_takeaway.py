"""What is taken along says what happened, opens anywhere, repeats the run, and lets no text of others do anything."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

import judgeq
from app import text
from app.sections.take_away import callbacks as takeaway
from app.sections.take_away import view
from app.sections.take_away.link import Restored, link_of, restored
from app.server.host import ModelHost
from app.server.run import Run
from app.server.samples import samples
from app.server.task import Task
from judgeq.errors import InputError
from judgeq.export import Comparison, Settings, picture
from judgeq.export.table import cell
from judgeq.look.format import visible
from judgeq.models.language_model import LanguageModel
from judgeq.retention import RetentionMap
from judgeq.soft_tokens.soft_tokens import SoftTokens
from tests.test_report import Elements
from tests.waiting import PATIENCE_S

EVIL = (
    "=1+2 The ferry <script>alert(1)</script> leaves at <img src=x onerror=alert(2)> noon.\n\n"
    "</mark></style><style>*{display:none}</style> @SUM(A1) \u202egnp.exe\u202c \x00\x1b[31m end. "
) * 3
QUESTION = 'When does the "ferry" </title><script>alert(3)</script> leave?\u2028'
METHODS = ("full", "judgeq", "snapkv")


@pytest.fixture(scope="module")
def tokens(lm: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SoftTokens.initialise(lm, torch.arange(10, 18)).save_pretrained(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def host(lm: LanguageModel, tokens: Path) -> ModelHost:
    made = ModelHost(lm.name, tokens, load=lambda name, progress: lm)
    made.model()
    return made


@pytest.fixture(scope="module")
def run(host: ModelHost) -> Run:
    """A run over a hostile document."""
    return ended(Task(EVIL, QUESTION, METHODS, budget=24, question_first=True, max_new_tokens=6), host)


@pytest.fixture(scope="module")
def kept(run: Run) -> Comparison:
    return takeaway.comparison_of(run)


def ended(task: Task, host: ModelHost) -> Run:
    started = Run(task, host).start()
    assert started.finished.wait(PATIENCE_S)
    assert started.phase == "done", started.error
    return started


# The page


def test_the_page_holds_answers_costs_and_a_map_of_each_method(kept: Comparison) -> None:
    page = kept.to_html()
    assert page.count("<article>") == page.count('class="jq-map"') == page.count('<svg class="heat"') == 3
    read = " ".join(Elements(page).words)
    for answer in kept.answers:
        assert visible(answer.text.strip()) in read
        assert f"{answer.prompt_tokens:,}" in read
    assert "24 rows per KV head" in read
    assert "before the document" in read
    assert f"judgeq {judgeq.__version__}" in read
    assert kept.settings.model in read


def test_nothing_in_the_document_becomes_part_of_the_page(kept: Comparison) -> None:
    parts = Elements(kept.to_html())
    tags = {tag for tag, _ in parts.tags}
    assert "script" not in tags
    assert sum(tag == "style" for tag, _ in parts.tags) == 3, "the page's, the map's, and the choice"
    assert all(found["src"].startswith("data:image/png;base64,") for tag, found in parts.tags if tag == "img")
    assert not [name for _, found in parts.tags for name in found if name.startswith("on") or name == "style"]
    read = "".join(parts.words)
    assert "<script>alert(1)</script>" in read
    assert not set("\x00\x1b\u202e") & set(read)


def test_the_page_may_load_nothing_and_its_styles_are_named_by_their_hash(kept: Comparison) -> None:
    page = kept.to_html()
    (policy,) = (found["content"] for tag, found in Elements(page).tags if found.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles]
    assert rules["style-src"] == " ".join(f"'sha256-{found}'" for found in hashes)


def test_the_heatmap_has_the_colours_of_what_was_kept(kept: Comparison) -> None:
    page = kept.to_html()
    pictures = re.findall(r'<image [^>]*href="data:image/png;base64,([^"]+)"', page)
    for data, answer in zip(pictures, kept.answers, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
        profile = answer.retention.layer_profile(pixels.shape[1])
        assert pixels.shape[:2] == profile.shape
        brightness = pixels.sum(axis=2)
        assert (brightness[profile == 1] > brightness[profile < 1].max(initial=0)).all()
        if answer.method != "full":
            assert (brightness[profile == 0] < brightness[profile > 0].min()).all()


def test_methods_are_chosen_without_a_script_and_judge_q_first(kept: Comparison) -> None:
    page = kept.to_html()
    radios = [found for tag, found in Elements(page).tags if tag == "input"]
    assert [("checked" in found) for found in radios] == [False, True, False]
    for place in range(3):
        assert f"main:has(#m{place}:checked) .panel:not(.m{place}){{display:none}}" in page
    only = replace(kept, answers=kept.answers[:1])
    assert only.featured == 0
    assert replace(kept, answers=[kept.answers[0], kept.answers[2]]).featured == 1


def test_the_heatmap_has_words_and_its_columns_tell_what_stood_there(kept: Comparison) -> None:
    parts = Elements(kept.to_html())
    labels = [found["aria-label"] for tag, found in parts.tags if tag == "svg" and found.get("role") == "img"]
    assert [label for label in labels if label and "SnapKV keeps, layer by layer" in label]
    assert len(labels) == 3
    found = kept.answers[1].retention
    titles = [word for word in parts.words if word.startswith(("tokens 0 to", "token 0:"))]
    assert len(titles) == 3
    assert visible(found.text[: found.offsets[0][1]]).split()[0][:5] in titles[0]


def test_the_documented_program_runs(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "take-away.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    soft = SoftTokens.initialise(lm, torch.arange(40, 44))
    monkeypatch.setattr(judgeq, "load", lambda name: lm)
    monkeypatch.setattr(SoftTokens, "for_model", lambda lm, name=None, **how: soft)
    monkeypatch.chdir(tmp_path)
    Path("document.txt").write_text(EVIL.replace("\x00", ""), encoding="utf-8")
    names: dict[str, Any] = {}
    exec(code, names)
    assert [found.method for found in names["maps"]] == list(METHODS)
    assert names["picture"].startswith(b"\x89PNG")
    for key in (*names["values"], *names["values"]["settings"]):
        assert f"`{key}`" in page


# JSON


def test_the_values_are_what_the_command_line_prints_and_the_maps_read_back(kept: Comparison) -> None:
    values = json.loads(json.dumps(kept.to_json()))
    assert values["format"] == "judgeq.inference.answers/1"
    assert values["question"] == QUESTION
    assert values["settings"]["budget"] == 24
    for found, answer in zip(values["answers"], kept.answers, strict=True):
        again = RetentionMap.from_json(found.pop("retention"))
        assert found == json.loads(json.dumps(answer.to_dict()))
        assert again.document_text == answer.retention.document_text
        for ours, theirs in zip(again.rows_of(), answer.retention.rows_of(), strict=True):
            assert ours.tolist() == theirs.tolist()
    assert "scores" not in kept.to_json()["answers"][1]["retention"]
    assert kept.to_json(scores=True)["answers"][1]["retention"]["scores"] is not None


# CSV


def test_the_table_has_a_line_for_each_method_and_word(kept: Comparison) -> None:
    table = kept.to_csv()
    assert table.startswith("\ufeff"), "else Excel takes UTF-8 for something else"
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"), newline="")))
    spans, _ = kept.answers[0].retention.units("word")
    assert len(rows) == len(METHODS) * len(spans)
    for row in rows:
        found = next(answer.retention for answer in kept.answers if answer.method == row["method"])
        start, end = int(row["start"]), int(row["end"])
        at = found.tokens_at(start, end)
        best = found.share_kept()[at.start : at.stop].max()
        assert float(row["kept"]) == pytest.approx(best, rel=1e-3)
        for layer in range(found.layers):
            best = found.share_kept(layer)[at.start : at.stop].max()
            assert float(row[f"layer_{layer}"]) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_a_spreadsheet_computes_nothing(start: str) -> None:
    assert cell(f"{start}cmd|' /C calc'!A0").startswith("'")
    assert cell("plain = text") == "plain = text"


def test_no_cell_of_the_table_is_a_formula(kept: Comparison) -> None:
    table = csv.reader(io.StringIO(kept.to_csv().removeprefix("\ufeff"), newline=""))
    cells = [value for row in table for value in row]
    assert not [value for value in cells if value[:1] in "=+-@\t\r" and value]
    assert {"'=", "'@"} <= set(cells)


# The picture


def test_the_picture_shows_other_answers_and_other_rows(kept: Comparison) -> None:
    """Cards and document change where answers and maps do, and nowhere else."""
    first = np.asarray(Image.open(io.BytesIO(kept.to_png()))).astype(int)
    other = replace(kept.answers[0], text="Something else entirely")
    second = np.asarray(Image.open(io.BytesIO(replace(kept, answers=[other, *kept.answers[1:]]).to_png())))
    changed = np.argwhere((first != second).any(axis=2))
    assert len(changed) > 100
    assert changed[:, 1].max() < 1200 / 3 + 20, "within the first card"
    rows = replace(kept.answers[1].retention, kept=kept.answers[0].retention.kept)
    full = replace(kept.answers[1], retention=rows)
    third = np.asarray(Image.open(io.BytesIO(replace(kept, answers=[other, full, kept.answers[2]]).to_png())))
    assert ((second != third).any(axis=2)).sum() > 5_000


@pytest.mark.parametrize(
    "words", ["", "x" * 5000, "中文文本 " * 50, "هذا نص عربي طويل " * 30, "\u0301\u202e\x00", "👩‍👩‍👧 " * 40]
)
def test_a_picture_takes_any_text(kept: Comparison, words: str) -> None:
    answers = [replace(answer, text=words) for answer in kept.answers] * 3
    made = Image.open(io.BytesIO(replace(kept, question=words or "?", answers=answers).to_png()))
    assert (made.format, made.size) == ("PNG", (1200, 630))


def test_what_no_font_has_becomes_a_box_and_is_said() -> None:
    canvas = picture.Canvas()
    assert canvas.drawable("Grüße, Ελλάδα, Привет, שלום, ł ő ș – € ✓ □").count("□") == 1
    assert not canvas.missing
    assert canvas.drawable("a\U000e0fff\U0010fffd") == "a□□"
    assert canvas.missing


def test_lines_fit_and_say_where_they_were_cut() -> None:
    canvas = picture.Canvas()
    words = "one two three four five six seven eight nine ten " * 3
    lines = canvas.wrapped(words, picture.TEXT, 200, 3)
    assert len(lines) == 3
    assert all(canvas.width(line, picture.TEXT) <= 200 for line in lines)
    assert lines[-1].endswith("…")
    assert " ".join(canvas.wrapped(words, picture.TEXT, 200, 99)).split() == words.split()
    assert "".join(canvas.wrapped("x" * 200, picture.TEXT, 200, 99)) == "x" * 200


def test_words_of_scripts_that_run_to_the_left_start_at_the_right() -> None:
    assert picture.right_to_left("שלום world") is False
    assert picture.right_to_left("שלום עולם a")
    assert not picture.right_to_left("")


# Python


@pytest.mark.parametrize("document", [EVIL, samples()[0].document[:600]])
def test_the_lines_of_python_repeat_the_run(
    document: str,
    host: ModelHost,
    lm: LanguageModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    document = document.replace("\x00", "")  # no file of text has any
    methods = ("snapkv", "full", "judgeq")
    run = ended(Task(document, QUESTION, methods, budget=31, question_first=True, max_new_tokens=7), host)
    lines = view.offer(run)[2]
    (tmp_path / "document.txt").write_text(document, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(judgeq, "load", lambda name: {lm.name: lm}[name])
    names: dict[str, Any] = {}
    exec(lines, names)
    for ours, theirs in zip(names["answers"], (lane.answer for lane in run.lanes), strict=True):
        assert (ours.text, ours.method, ours.budget) == (theirs.text, theirs.method, theirs.budget)
        assert ours.kept_rows == theirs.kept_rows
        assert ours.retention.rows_of()[0].tolist() == theirs.retention.rows_of()[0].tolist()
    assert f"judgeq: {names['answers'][2].text}" in capsys.readouterr().out


def test_what_is_usual_is_left_out_and_what_is_not_is_said() -> None:
    plain = Comparison("Who?", Settings("some/model", ("full",), 0.5), [None])  # type: ignore[list-item]
    lines = plain.to_python()
    assert 'judgeq.load("some/model")' in lines
    assert 'methods=("full",)' in lines
    assert "budget=0.5" in lines
    assert not re.search("tokens=(?!64)|question_first|truncate", lines)
    unusual = replace(plain.settings, quantization="4bit", tokens="a/b", truncate=True)
    said = replace(plain, settings=unusual).to_python()
    assert 'judgeq.load("some/model", quantization="4bit")' in said
    assert 'tokens="a/b"' in said
    assert "truncate=True" in said


@pytest.mark.parametrize("question", ['"', "'", "\"'", "\\", '"""\nimport os', "\u202e{x}", "\ud800"])
def test_a_question_is_only_ever_a_string(question: str) -> None:
    lines = Comparison(question, Settings("m", ("full",), 5), [None]).to_python()  # type: ignore[list-item]
    calls = (node for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Call))
    called = next(call for call in calls if len(call.args) == 3)
    assert ast.literal_eval(called.args[2]) == question
    assert "\u202e" not in lines


# Files


@pytest.mark.parametrize("kind", takeaway.KINDS)
def test_no_file_goes_to_the_disk(run: Run, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    found = view.make_file(run, kind)
    assert found["name"] == f"judgeq-when-does-the-ferry-title-script-alert-3.{takeaway.KINDS[kind].ending}"
    assert re.fullmatch(r"[a-z0-9.-]+", found["name"])
    data = base64.b64decode(found["data"])
    begin = {
        "page": b"<!doctype html>",
        "picture": b"\x89PNG",
        "table": b"\xef\xbb\xbfmethod,",
        "values": b"{",
    }
    assert data.startswith(begin[kind])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_taken_before_there_is_an_answer(run: Run, host: ModelHost) -> None:
    waiting = Run(run.task, host)
    for nothing in (None, waiting):
        with pytest.raises(gr.Error, match="no answer to export yet"):
            view.make_file(nothing, "page")
        assert view.offer(nothing)[0]["visible"] is False
    assert view.offer(run)[0]["visible"] is True
    with pytest.raises(gr.Error, match=r"no format \W+exe"):
        view.make_file(run, "exe")
    with pytest.raises(InputError, match="no answer"):
        Comparison("?", Settings("m", (), 1), [])


def test_the_page_has_the_date_of_the_run_and_says_that_an_answer_was_stopped(kept: Comparison) -> None:
    then = datetime(2026, 3, 5, 9, 7, tzinfo=UTC)
    cut = replace(kept, answers=[replace(kept.answers[1], finish="cancelled")], made=then)
    page = cut.to_html()
    assert "Stopped before its end." in page
    assert "05 March 2026, 09:07 UTC" in page
    assert cut.to_json()["made"] == "2026-03-05T09:07:00+00:00"


def test_a_surrogate_is_no_obstacle(kept: Comparison) -> None:
    answers = [replace(answer, text="half \ud83d") for answer in kept.answers]
    broken = replace(kept, question="half \ud83d", answers=answers)
    for form in takeaway.KINDS.values():
        made = form.make(broken)
        assert made if isinstance(made, bytes) else made.encode("utf-8", "replace")


# Links


def task_of(**changes: Any) -> Task:
    return replace(Task(samples()[1].document, "What, & how? #1", ("full", "judgeq"), 99), **changes)


def test_a_link_brings_everything_back_but_a_text_of_ones_own() -> None:
    task = task_of(question_first=True, truncate=True, max_new_tokens=20)
    found = restored("#" + link_of(task))
    assert found is not None
    assert found == Restored(
        samples()[1], task.question, 99, task.methods, question_first=True, truncate=True, max_new_tokens=20
    )
    begun = link_of(task_of(answer_prefix="It is & was"))
    assert view.restore(begun)[-2:] == ("It is & was", task.question), "nothing else is proposed for it"
    own = link_of(task_of(document="My secret diary"))
    assert not re.search("secret|sample", own)
    sample = samples()[1]
    shown = view.restore(link_of(task))[:4]
    assert shown == (sample.name, sample.document, task.question, 99)


MEANINGLESS = {
    "sample": ["../../etc/passwd", "none"],
    "question": ["x" * 2001, "a\0b", " "],
    "rows": ["0", "-3", "1e9", "nan", "９", "99999999"],
    "methods": ["full,evil", "__class__"],
    "first": ["2", "true"],
    "cut": ["yes"],
    "longest": ["3", "100000"],
    "begin": ["a\0b", " "],
    "document": ["text"],
    "<script>": ["1"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in MEANINGLESS.items() for value in values]
)
def test_what_means_nothing_in_a_link_is_left_out_and_named(field: str, value: str) -> None:
    given = parse_qs(link_of(task_of()))
    given[field] = [value]
    link = "&".join(f"{quote(name)}={quote(values[0])}" for name, values in given.items())
    found = restored(link)
    whole = restored(link_of(task_of()))
    assert whole is not None
    assert found.ignored == (re.sub(r"[<>]", "?", field),)
    place = {
        "first": "question_first",
        "cut": "truncate",
        "longest": "max_new_tokens",
        "begin": "answer_prefix",
    }.get(field, field)
    usual = {"question_first": False, "truncate": False, "answer_prefix": ""}
    expected = {place: usual.get(place)} if hasattr(whole, place) else {}
    assert found == replace(whole, **expected, ignored=found.ignored)


@pytest.mark.parametrize("fragment", [None, 5, "", "#top", {"question=": 1}, "rows=5"])
def test_what_is_no_link_of_ours_changes_nothing(fragment: Any) -> None:
    assert restored(fragment) is None
    assert len(view.restore(fragment)) == 10
    assert all(found == gr.skip() for found in view.restore(fragment))


@pytest.mark.parametrize("link", ["question=" + "x" * 10_000, "&".join(["question=1"] * 100)], ids=len)
def test_a_link_that_is_far_too_long_is_not_read(link: str) -> None:
    assert restored(link) == Restored(ignored=("link",))


def test_a_link_without_a_document_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(gr, "Info", lambda line, **_: said.append(line))
    monkeypatch.setattr(gr, "Warning", lambda line, **_: said.append(line))
    shown = view.restore(link_of(task_of(document="My own")) + "&<b>=1")
    assert shown[:3] == (None, "", task_of().question)
    assert said == [text.LINK_IGNORED.format(names="?b?"), text.LINK_NO_DOCUMENT]
