"""The figures of the documents are those of the results files, and these are of the shipped soft tokens."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from judgeq.evaluation.report import read_results, to_markdown

ROOT = Path(__file__).resolve().parents[1]
FIGURES = runpy.run_path(str(ROOT / "docs" / "figures.py"))
PAGES = {path: path.read_text(encoding="utf-8") for path in FIGURES["pages"]()}


def test_the_pages_have_the_figures_of_the_results_files() -> None:
    outdated = [path.name for path, text in PAGES.items() if FIGURES["filled"](text) != text]
    assert not outdated, "run: ./run python docs/figures.py"


def test_the_results_page_is_what_its_command_writes() -> None:
    measured = PAGES[ROOT / "docs" / "measured.md"]
    (command,) = re.findall(r"^python -m judgeq report (.*) --markdown docs/results\.md$", measured, re.MULTILINE)
    files = [read_results(ROOT / word) for word in shlex.split(command)]
    assert to_markdown(files) == (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), f"run: {command}"


def test_every_figure_stands_in_a_page() -> None:
    used = set(re.findall(r"<!-- (?:table|value): (\w+)", "".join(PAGES.values())))
    assert used == {*FIGURES["TABLES"], *FIGURES["VALUES"]}


def test_another_result_is_another_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (
        "<!-- table: bench_step -->\n| tokens | in |\n|---|---|\n| 1 | 2 |\n\n"
        "Steps are <!-- value: step_ratios -->3.0 to\n4.0<!-- --> times as fast.\n"
    )
    result = {"prompt_tokens": 1200, "precision": "float32", "ratio": 2.5, "faster": 2.5}
    result |= {"stored_s": 0.5, "alone_s": 0.75, "recomputed_s": 1.25, "answer_s": 3.0}
    (tmp_path / "bench_step.json").write_text(json.dumps({"rows": [result]}), encoding="utf-8")
    monkeypatch.setitem(FIGURES["filled"].__globals__, "RESULTS", tmp_path)
    filled = FIGURES["filled"](page)
    assert "|---|\n| 1,200 | float32 | 1.25 s | 0.75 s | 0.50 s | 2.5 | 3.0 s |\n\nSteps" in filled
    assert FIGURES["unmarked"](filled).endswith("Steps are 2.5 to 2.5 times as fast.\n")
    with pytest.raises(KeyError, match="magic"):
        FIGURES["filled"]("<!-- value: magic -->1<!-- -->")


def test_what_others_measured_has_a_line_for_each_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = "<!-- table: others -->\n| file | … |\n|---|---|\n| a | b |\n"
    monkeypatch.setitem(FIGURES["filled"].__globals__, "RESULTS", tmp_path)
    assert "| none yet | – |" in FIGURES["filled"](page)
    rows = [
        {"method": method, "budget": budget, "task": "ruler@1024", "metric": "average", "score": score}
        for method, budget, score in (("full", 1.0, 0.5), ("judgeq", 64, 0.25), ("judgeq", 0.1, 0.375))
    ]
    (tmp_path / "others").mkdir()
    result = {"model": "llama", "precision": "bfloat16", "rows": [*rows, {**rows[0], "metric": "ruler"}]}
    (tmp_path / "others" / "llama-ruler.json").write_text(json.dumps(result), encoding="utf-8")
    assert FIGURES["filled"](page).splitlines()[3:] == [
        "| llama-ruler | llama | bfloat16 | ruler@1024 | 64 | 50.0 % | 25.0 % | – |",
        "| llama-ruler | llama | bfloat16 | ruler@1024 | 0.1 | 50.0 % | 37.5 % | – |",
    ]


def test_the_figures_are_of_the_shipped_soft_tokens_or_say_that_they_are_of_earlier_ones() -> None:
    shipped = json.loads((ROOT / "assets/soft_tokens/smollm2-135m/judgeq_config.json").read_text("utf-8"))
    names = "hit_rate hit_rate_manuals hit_rate_8k ruler_words ruler_rivals ruler_512 ruler_first".split()
    names += [
        "memory_rows",
        "niah",
        "begun",
        "ruler_unknown_known_tokens",
        "samples_unknown_known_tokens",
        "samples_known",
    ]
    assert not [name for name in names if FIGURES["results"](name)["tokens"] != shipped["recipe"]]
    path = ROOT / "assets/soft_tokens/smollm2-135m-documents/judgeq_config.json"
    recipe = json.loads(path.read_text("utf-8"))["recipe"]
    names = ["ruler_unknown", "ruler_unknown_4096", "samples_unknown"]
    assert not [name for name in names if FIGURES["results"](name)["tokens"] != recipe]
    earlier = ["answers", "ruler", "ruler_moved"]
    earlier += [
        f"quantized/{kind}_{bits}" for kind in ("hit_rate", "answers") for bits in FIGURES["PRECISIONS"].values()
    ]
    for name in earlier:
        assert any("earlier soft tokens" in note.lower() for note in FIGURES["results"](name)["notes"]), name
    assert FIGURES["results"]("hit_rate_quick")["tokens"] == FIGURES["results"]("train_quick")["recipe"]
