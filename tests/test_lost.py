"""Which words of an answer no head keeps: exactly those, in the map, in answers and in evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import judgeq
from app import text
from app.sections.ask.cards import MOST_LOST, run_cards
from app.server.host import ModelHost
from app.server.run import Run
from app.server.task import Lane, note_lost
from app.server.task import Task as DemoTask
from judgeq.data.example import Example
from judgeq.evaluation.journal import Journal, Rated
from judgeq.evaluation.questions import Question, Task
from judgeq.evaluation.report import blocks_of, results_from, to_html, to_markdown
from judgeq.evaluation.report.blocks import byte_points
from judgeq.evaluation.report.figures import byte_curves
from judgeq.evaluation.report.styles import styles_of
from judgeq.evaluation.report.tables import bytes_table
from judgeq.evaluation.results import cells_of, rows_of
from judgeq.evaluation.runner import Measured, asked_of
from judgeq.methods import Full, StreamingLLM
from judgeq.models.language_model import LanguageModel
from judgeq.prompts.prompt import chat_characters
from judgeq.retention import RetentionMap
from judgeq.retention.lost import Lost
from tests.test_report import ROOT
from tests.test_retention import BEFORE, everything, make
from tests.test_runner import measure

DOCUMENT = "Ada wrote 4718 pages. Bob read 4718 of them, then ADA."


def without(*words: str, document: str = DOCUMENT) -> RetentionMap:
    """A map whose heads share all tokens, each kept by one head, but for the tokens of some spans of the document."""
    full = everything(document)
    gone = {
        token
        for word in words
        for at in range(len(document))
        if document.startswith(word, at)
        for token in full.tokens_at(at, at + len(word))
    }
    rows = [token for token in range(full.tokens) if token not in gone]
    heads = [np.array(rows[at :: full.layers * full.kv_heads]) for at in range(full.layers * full.kv_heads)]
    kept = tuple(tuple(heads[at : at + full.kv_heads]) for at in range(0, len(heads), full.kv_heads))
    return replace(full, kept=kept)


@pytest.mark.parametrize(
    ("gone", "answer", "tokens", "lost", "marked"),
    [
        ((), "Bob read 4718 pages.", 7, 0, []),  # rea|d, 471|8 and pag|es are two tokens each
        (("Bob",), "Bob read 4718 pages.", 7, 1, ["Bob"]),
        (("4718",), "It was 4718: four thousand.", 2, 2, ["4718"]),
        ((" 4718 pages",), "4718 pages", 4, 2, ["pages"]),  # the number stands there once more
        (("Ada",), "ada, Ada", 2, 0, []),  # "ADA" is left
        (("Ada", "ADA"), "ada, Ada", 2, 2, ["ada", "Ada"]),
        (("Bob", "."), "Bobby! <b> …", 0, 0, []),
        (("Bob",), "", 0, 0, []),
    ],
)
def test_words_are_lost_that_stand_in_the_document_and_in_no_head(
    gone: tuple[str, ...], answer: str, tokens: int, lost: int, marked: list[str]
) -> None:
    found = without(*gone).lost_everywhere(answer)
    assert (found.tokens, found.lost) == (tokens, lost)
    assert [answer[first:last] for first, last in found.spans] == marked
    assert found.share == (lost / tokens if tokens else None)


def test_one_head_of_one_layer_is_enough_and_the_question_does_not_count() -> None:
    found = without("Bob")
    (token,) = found.tokens_at(DOCUMENT.index("Bob"), DOCUMENT.index("Bob") + 3)
    held = replace(found, kept=(*found.kept[:-1], (np.array([token]), *found.kept[-1][1:])))
    assert held.lost_everywhere("Bob").lost == 0
    assert found.lost_everywhere("Who").tokens == 0  # the question's word
    assert make(keep=-1).lost_everywhere("Ada").share == 1.0
    assert BEFORE.strip() not in DOCUMENT


def test_an_answer_says_what_of_it_is_lost(lm: LanguageModel) -> None:
    reading = judgeq.read(lm, DOCUMENT * 5, "Who?", methods=("full", "streamingllm"), budget=40)
    full, few = (writer.finish() for writer in reading.writers)
    assert full.retention.lost_everywhere(DOCUMENT).share == 0.0
    assert few.retention.lost_everywhere(DOCUMENT).lost > 0
    said = replace(few, text=DOCUMENT)
    assert said.to_dict()["lost_share"] == said.lost_share == few.retention.lost_everywhere(DOCUMENT).share
    assert 0 < said.lost_share < 1
    assert replace(few, text="").to_dict()["lost_share"] is None


def test_evaluation_measures_the_right_answers_in_what_was_said(lm: LanguageModel) -> None:
    example = Example.asking(DOCUMENT * 5, "Who?", "test", answers=("4718", "Zoe"))
    question = Question(example, max_new_tokens=2)
    said, offsets = chat_characters(lm, example.messages)
    assert len(offsets) == question.input_ids(lm).shape[1]
    at = said.index("4718")
    tokens = sum(first < at + 4 and last > at for first, last in offsets)
    assert question.occurrences(lm).lost(np.zeros(len(offsets), dtype=bool)) == Lost(tokens, tokens, ((0, 4),))
    measured = measure(lm, [question], [Full(), StreamingLLM()], [8])
    shares = {name: rated.lost for name, rated in measured.answers[0].items()}
    assert shares == {"full@1.0": 0.0, "streamingllm@8": 1.0}
    template = Question(Example.asking("a b", "c", "test", answers=("user",)), max_new_tokens=2)
    assert template.occurrences(lm).words == []


def test_rows_have_the_mean_and_only_where_every_question_is_known(tmp_path: Path) -> None:
    asked = asked_of({"full": Full(), "streamingllm": StreamingLLM()}, 8)
    shares = {"full@1.0": [0.0, 0.0, None], "streamingllm@8": [1.0, 0.5, None]}

    def rows(known: dict[str, list[float | None]]) -> dict[str, float | None]:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        for at in range(3):
            Journal(path, {}).add(str(at), "t", {name: Rated("", 0.0, lost=each[at]) for name, each in known.items()})
        example = Example.asking("a", "b", "test", answers=("a",))
        questions = dict.fromkeys(range(3), Question(example))
        answers = {at: Journal(path, {}).answers(str(at)) for at in range(3)}
        measured = Measured(Task("t", list(questions.values())), questions, answers)
        return {row["method"]: row.get("lost") for row in rows_of(cells_of([measured]), asked, 0)}

    assert rows(shares) == {"full": 0.0, "streamingllm": 0.75}
    assert rows({**shares, "full@1.0": [0.0, None, None]}) == {"full": None, "streamingllm": 0.75}
    assert rows({name: [None] * 3 for name in shares}) == {"full": None, "streamingllm": None}


BITS = ROOT / "assets" / "results" / "bits.json"


def test_the_report_lines_up_equal_bytes_and_what_is_lost() -> None:
    value = json.loads(BITS.read_text())
    evil = "<script>alert(1)</script>:bits=4"
    for row in value["rows"]:
        row["lost"] = 0.25 if row["method"] != "full" else 0.0
        row["method"] = evil if row["method"] == "judgeq:bits=4" else row["method"]
    file = results_from(value, "bits.json", "bits.json")
    block = next(block for block in blocks_of(file) if block.benchmark == "keys")
    points = byte_points(block, 1000)
    full = next(row for row in value["rows"] if row["method"] == "full" and row["task"] == "keys@1000")
    for row in value["rows"]:
        if row["task"] == "keys@1000" and row["method"] != "full":
            shares = [point.share for point in points[row["method"]]]
            assert row["kv_bytes"] / full["kv_bytes"] == pytest.approx(
                min(shares, key=lambda share: abs(share - row["kv_bytes"] / full["kv_bytes"]))
            )
    assert {"full:bits=4", "full:bits=8", "judgeq:bits=8"} < set(points)
    table = bytes_table(block, 1000)
    cells = dict(table.lines)["Judge Q"]
    ours = {point.score for point in points["judgeq"] if 0.08 < point.share < 0.101}
    assert cells[table.columns.index("10 %")].text in {f"{100 * score:.1f} %" for score in ours}
    figure = byte_curves(block, 1000, styles_of(points))
    assert "<script" not in figure.to_json().replace("\\u003c", "")
    for page in (to_html([file]), to_markdown([file])):
        assert "lost everywhere" in page
        assert "equal bytes" in page
        assert "<script>alert" not in page
    bare = json.loads(BITS.read_text())
    for row in bare["rows"]:
        row.pop("kv_bytes", None)
    (first, *_) = blocks_of(results_from(bare, "bits.json", "bits.json"))
    assert byte_points(first, 1000) == {}
    assert bytes_table(first, 1000) is None
    assert byte_curves(first, 1000, {}) is None


def test_a_card_marks_the_words_that_its_method_has_lost() -> None:
    evil = "<b>Bob</b> read “Ada” &amp; 4718"
    run = Run(DemoTask("d", "q", methods=()), ModelHost("m"))
    kept = {"snapkv": without("Bob", "4718"), "judgeq": without(), "laq": None}
    run.lanes = [Lane("full", text=evil, finish="end", retention=everything(DOCUMENT))]
    run.lanes += [Lane(name, text="It is.", finish="end", retention=map_) for name, map_ in kept.items()]
    note_lost(run.lanes)
    run.finished.set()
    cards_of = dict(zip(("full", *kept), run_cards(run).split("<article")[1:], strict=True))
    assert "<mark>Bob</mark> <mark>4718</mark></p>" in cards_of["snapkv"]
    assert text.LOST_WORDS in cards_of["snapkv"]
    assert "<td>50 % <small>of 6 tokens</small>" in cards_of["snapkv"]  # Bob, rea|d, Ada, 471|8
    assert "<td>0 % <small>of 6 tokens</small>" in cards_of["judgeq"]
    for name in ("full", "laq"):
        assert text.LOST not in cards_of[name]
        assert "<mark>" not in cards_of[name]
    run.lanes[1].lost_words = ("<img src=x>", *map(str, range(40)))
    shown = run_cards(run)
    assert "<mark>&lt;img src=x&gt;</mark>" in shown
    assert shown.count("<mark>") == MOST_LOST
    assert text.LOST_MORE.format(count=41 - MOST_LOST) in shown
    run.lanes[0].finish = "cancelled"
    run.lanes[1].lost = None
    note_lost(run.lanes)
    assert run.lanes[1].lost is None, "half an answer is no reference"
