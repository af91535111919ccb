"""What the page shows of the kept rows, without a browser and without a model."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app.sections.kept import callbacks as do
from app.sections.kept.view import SCRIPT, Kept, wire_kept
from judgeq.methods import title_of
from judgeq.retention import RetentionMap
from judgeq.retention.text import shown_positions
from tests.test_retention import DOCUMENT, everything, make


def run_of(*maps: RetentionMap) -> Any:
    """What the page looks at of a run."""
    run = SimpleNamespace(retention={found.method: found for found in maps})
    run.look = lambda: run
    return run


@pytest.fixture
def run() -> Any:
    return run_of(everything(), make(seed=1), make(seed=2, method="snapkv"))


def even(method: str) -> RetentionMap:
    """A map whose heads all keep two rows."""
    found = make(method=method)
    kept = ((np.array([3, 5]),) * 2,) * 3
    return RetentionMap(method, "tiny", 2, found.text, found.offsets, found.document, kept)


def select(run: Any, start: Any, end: Any) -> Any:
    return do.selected(run, gr.EventData(None, {"start": start, "end": end}))


def test_a_run_fills_as_many_components_as_there_are(run: Any) -> None:
    with gr.Blocks():
        kept = Kept()
    assert len(do.map_updates(run, True)) == len(kept.shown) == do.FIELDS
    assert len(do.map_updates(run, False)) == do.FIELDS
    assert all(value == gr.skip() for value in do.map_updates(run, False))
    assert all(value == gr.skip() for value in do.map_updates(run_of(), True))


def test_judge_q_is_shown_first_with_every_layer_and_head_to_choose(run: Any) -> None:
    _, panel, method, layer, document, _, _, head, other, metric, *_ = do.map_updates(run, True)
    assert panel["visible"]
    assert method["value"] == "judgeq"
    assert [value for _, value in layer["choices"]] == [-1, 0, 1, 2]
    assert [value for _, value in head["choices"]] == [-1, 0, 1]
    assert [value for _, value in other["choices"]] == ["", "full", "snapkv"]
    assert [value for _, value in metric["choices"]] == ["kept", "score"]
    assert "Judge Q keeps" in document


def test_layer_head_and_granularity_reach_the_document(run: Any) -> None:
    document = do.show_document(run, "snapkv", "", "sentence", 2, 1)[1]
    assert document == run.retention["snapkv"].to_html(2, "sentence", head=1, reading=True)
    everywhere = do.show_document(run, "snapkv", "", "word", 99, -7)[1]
    assert everywhere == run.retention["snapkv"].to_html(reading=True), "no such layer is all of them"
    assert do.show_document(run, "snapkv", "", "letter", -1, -1)[1] == everywhere
    assert do.show_document(None, "snapkv", "", "word", -1, -1) == (gr.skip(), gr.skip())
    assert do.show_document(run, "nothing", "", "word", -1, -1) == (gr.skip(), gr.skip())


def test_two_methods_are_laid_over_one_another_and_none_over_itself(run: Any) -> None:
    other, document = do.show_document(run, "judgeq", "snapkv", "token", 1, -1)
    maps = run.retention
    assert document == maps["judgeq"].difference_html(maps["snapkv"], 1, "token", reading=True)
    assert other["value"] == "snapkv"
    other, document = do.show_document(run, "snapkv", "snapkv", "word", -1, -1)
    assert other["value"] == ""
    assert document == maps["snapkv"].to_html(reading=True)


def test_scores_are_drawn_where_there_are_some(run: Any) -> None:
    choice, figure, *_ = do.show_figures(run, "judgeq", "score")
    assert choice["value"] == "score"
    assert figure == run.retention["judgeq"].to_figure("score")
    choice, figure, *_ = do.show_figures(run, "full", "score")
    assert choice["value"] == "kept"
    assert [value for _, value in choice["choices"]] == ["kept"]
    assert figure == run.retention["full"].to_figure()
    assert do.show_figures(None, "full", "kept") == (gr.skip(),) * 4


def test_heads_are_drawn_where_they_keep_different_numbers(run: Any) -> None:
    *_, part, heads = do.show_figures(run, "judgeq", "kept")
    assert part["visible"]
    assert heads == run.retention["judgeq"].to_head_figure()
    *_, part, heads = do.show_figures(run_of(even("snapkv")), "snapkv", "kept")
    assert not part["visible"]
    assert heads is None


def test_selected_words_have_a_figure_for_each_method(run: Any) -> None:
    start = DOCUMENT.index("Rome")
    words, table, figure = select(run, start - 1, start + 5)
    assert words == "Rome,"
    for name, found in run.retention.items():
        share = found.survival(start, start + 5)
        row = re.search(rf"<tr><th scope=\"row\">{title_of(name)}</th>.*?</tr>", table)
        assert row
        assert f"<td>{do.percent(share.mean())}</td>" in row[0]
    assert "(3 tokens)" in table
    assert "data-start" not in table, "it is selected already"
    assert figure["visible"]
    assert [trace.name for trace in figure["value"].data] == ["Full cache", "Judge Q", "SnapKV"]
    assert list(figure["value"].data[1].y) == run.retention["judgeq"].survival(start, start + 5).tolist()


def test_selections_are_counted_as_browsers_count() -> None:
    document = "😀😀\r\nthe 𝕏 rows\r\nstay"
    run = run_of(make(document, seed=1))
    positions = shown_positions(document)
    for words in ("the", "𝕏 rows", "stay"):
        start = document.index(words)
        first, last = positions[start], positions[start + len(words)]
        assert select(run, int(first), int(last))[0] == words


@pytest.mark.parametrize(
    ("start", "end"),
    [(None, 3), ("0", 3), (-1, 3), (3, 3), (5, 2), (True, 3), (0.5, 2), (10**9, 10**9 + 5), (0, 10**30)],
)
def test_a_selection_that_is_none_is_refused(run: Any, start: Any, end: Any) -> None:
    with pytest.raises(gr.Error, match="no words to find"):
        select(run, start, end)
    with pytest.raises(gr.Error, match="no words to find"):
        do.selected(run, gr.EventData(None, [start, end]))


def test_typed_words_are_found_and_shown_in_the_text(run: Any) -> None:
    words, table, _ = do.search(run, "  nobody\nELSE ")
    start = DOCUMENT.index("Nobody else")
    assert words == "Nobody else"
    assert f'data-start="{start}" data-end="{start + len(words)}"' in table
    assert do.find("a b. A  b", "A b") == (5, 9), "as written goes before any case"
    for bad, why in (("", "no words"), (None, "no words"), ("x" * 30_000, "no words"), ("zebra", "“zebra”")):
        with pytest.raises(gr.Error, match=why):
            do.search(run, bad)
    with pytest.raises(gr.Error, match="ask something"):
        do.search(None, "Nobody")
    with pytest.raises(gr.Error, match="&lt;img src=x") as caught:
        do.search(run, "<img src=x>")
    assert "<img" not in str(caught.value), "a toast is HTML"


def test_words_of_a_document_stay_words() -> None:
    document = "x <img src=x onerror=alert(1)> \u202e y " * 3
    table = do.search(run_of(make(document, method="<b>m</b>")), "<img src=x onerror=alert(1)> \u202e")[1]
    assert "<img" not in table
    assert "<b>" not in table
    assert "\u202e" not in table
    assert "&lt;img src=x" in table


def test_of_choices_in_quick_succession_the_last_is_shown() -> None:
    with gr.Blocks() as demo:
        wire_kept(Kept(), gr.State(None))
    modes = {event.fn.__name__: event.trigger_mode for event in demo.fns.values() if event.fn}
    assert {modes[name] for name in ("show_document", "show_figures", "selected")} == {"always_last"}


def test_the_script_asks_nobody_and_writes_no_html() -> None:
    for word in ("fetch(", "XMLHttpRequest", "innerHTML", "eval(", "http:", "https:", "server."):
        assert word not in SCRIPT
