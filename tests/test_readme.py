"""Figures in the README, in docs/measured.md and docs/training.md are those of the results files beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
README, MEASURED, TRAINING = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "docs/measured.md", "docs/training.md")
)
NAMES = {
    "Judge Q": "judgeq",
    "Judge Q + draft": "judgeq+draft",
    "LAQ": "laq",
    "SnapKV": "snapkv",
    "PyramidKV": "pyramidkv",
    "H2O": "h2o",
    "StreamingLLM": "streamingllm",
    "key norm": "keynorm",
    "random rows": "random",
    "Judge Q, pooled over 7": "judgeq:pool=7",
    "SnapKV, pooled over 7": "snapkv:pool=7",
}
RULER = {"Judge Q + draft of 16": "judgeq+draft:draft=16", **NAMES, "oracle": "oracle"}
ANSWERING = {
    "full cache": "full",
    "Judge Q": "judgeq",
    "Judge Q, adakv": "judgeq:allocation=adakv",
    "Judge Q, profile": "judgeq:allocation=profile",
    "Judge Q, profile+adakv": "judgeq:allocation=profile+adakv",
    "SnapKV": "snapkv",
}
HIT_RATES = ("hit_rate", "hit_rate_manuals", "hit_rate_8k")
TARGET_LEAD = 20  # points above SnapKV


def results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "assets" / "results" / f"{name}.json").read_text(encoding="utf-8"))


def table_after(page: str, marker: str) -> list[list[str]]:
    """The cells of the first table behind a marker comment, without its header, without emphasis."""
    lines = page.split(f"<!-- figures: {marker} -->", 1)[1].splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("|"))
    after = next(at for at, line in enumerate(lines) if at > first and not line.startswith("|"))
    return [[cell.strip(" *`") for cell in line.strip("|").split("|")] for line in lines[first + 2 : after]]


def percent(score: float) -> str:
    return f"{100 * score:.1f} %"


def scores(name: str) -> dict[tuple[str, int], float]:
    return {(row["method"], row["budget"]): row["score"] for row in results(name)["rows"]}


@pytest.mark.parametrize("name", HIT_RATES)
def test_hit_rates_are_those_of_the_results_file(name: str) -> None:
    measured = scores(name)
    budgets = sorted({budget for _, budget in measured})
    methods = {method for method, _ in measured}
    assert table_after(MEASURED, f"assets/results/{name}.json") == [
        [label, *(percent(measured[method, budget]) for budget in budgets)]
        for label, method in NAMES.items()
        if method in methods
    ]


def test_the_hit_rates_that_the_readme_names_are_those_of_the_articles() -> None:
    ours, theirs = (percent(scores("hit_rate")[method, 128]) for method in ("judgeq", "snapkv"))
    assert f"its 128 rows per head hold {ours}, SnapKV's {theirs}" in README


def test_the_lead_over_snapkv_is_what_the_page_says() -> None:
    for name in HIT_RATES:
        measured = scores(name)
        leads = {
            budget: round(100 * (measured["judgeq", budget] - measured["snapkv", budget]), 1)
            for method, budget in measured
            if method == "judgeq"
        }
        assert min(leads.values()) > 0
        for budget, lead in leads.items():
            if lead < TARGET_LEAD:
                assert f"{lead} points at {budget} rows" in MEASURED, (name, budget, lead)


@pytest.mark.parametrize("page", [README, MEASURED], ids=["README", "measured"])
def test_ruler_is_that_of_the_results_file(page: str) -> None:
    rows = {(row["method"], row["budget"]): row for row in results("ruler")["rows"] if row["task"] == "ruler"}
    budgets = sorted({budget for method, budget in rows if method != "full"})
    shown = {row[0]: row[1:] for row in table_after(page, "assets/results/ruler.json")}
    assert shown == {
        label: [percent(rows[method, budget]["score"]) for budget in budgets]
        for label, method in RULER.items()
        if (method, budgets[0]) in rows
    }
    full = rows["full", 1.0]
    assert re.search(rf"{full['n']} prompts in all. The full cache .* scores\s{percent(full['score'])}", page)


def test_what_is_said_about_ruler_is_so() -> None:
    measured = results("ruler")
    scores = {(row["task"], row["method"], row["budget"]): row["score"] for row in measured["rows"]}
    budgets, cells = (64, 128, 256, 512), ("ruler", "ruler@1024", "ruler@2048", "ruler@4096")
    methods = {method for _, method, _ in scores} - {"full", "oracle"}

    def closed_at(task: str, budget: int, method: str = "judgeq") -> int:
        low, full = scores[task, "snapkv", budget], scores[task, "full", 1.0]
        return 100 * (scores[task, method, budget] - low) / (full - low)

    def closed(method: str) -> str:
        *first, last = (str(round(closed_at("ruler", budget, method))) for budget in budgets)
        return f"{', '.join(first)} and {last} %"

    said = [closed(method) for method in ("judgeq", "judgeq+draft", "judgeq+draft:draft=16")]
    text = " ".join(MEASURED.split())
    front = (
        f"Judge Q closes {said[0]} of the gap between SnapKV and the full cache, and {said[2]} when it reads"
    )
    assert front in " ".join(README.split())
    assert f"Judge Q closes {said[0]} of the gap" in text
    assert f"with a draft of 8 tokens {said[1]}, with one of 16 tokens {said[2]} (the paper" in text
    for task in cells:
        for budget in budgets:
            best = max(methods, key=lambda method: scores[task, method, budget])
            assert best.startswith("judgeq+draft"), (task, budget, best)
    leads = {
        (row["task"], row["method"], row["against"], row["budget"]): row["interval"][0]
        for row in measured["differences"]
        if row["metric"] == "average"
    }
    for method in ("judgeq", "judgeq+draft", "judgeq+draft:draft=16"):
        assert all(leads[task, method, "snapkv", budget] > 0 for task in cells for budget in budgets)
    for method in ("judgeq+draft", "judgeq+draft:draft=16"):
        assert all(leads["ruler", method, "laq", budget] > 0 for budget in budgets)
    assert [leads["ruler", "judgeq", "laq", budget] > 0 for budget in budgets] == [True, False, False, False]
    assert all(closed_at(task, budget) > 50 for task in cells for budget in budgets[1:])
    longest = [round(closed_at("ruler@4096", budget)) for budget in budgets[1:]]
    assert "at 4,096 tokens: {}, {} and {} % there".format(*longest) in text
    assert "asked 25 questions at each length" in text
    assert "stand on 275 questions a length" in text
    assert {row["n"] for row in measured["rows"] if row["task"].startswith("ruler/")} == {25}
    assert {row["n"] for row in measured["rows"] if row["task"] in cells[1:]} == {275}


def test_what_a_moved_question_costs_is_that_of_the_results_file() -> None:
    moved = {
        (row["method"], row["budget"]): row
        for row in results("ruler_moved")["moved"]
        if "/" not in row["task"]
    }
    budgets = sorted({budget for method, budget in moved if method != "full"})

    def points(method: str, budget: float) -> str:
        return f"{100 * moved[method, budget]['difference']:+.1f}".replace("-", "−")

    shown = {row[0]: row[1:] for row in table_after(MEASURED, "assets/results/ruler_moved.json")}
    assert shown.pop("full cache") == [points("full", 1.0)] * len(budgets)
    assert shown == {
        label: [points(method, budget) for budget in budgets]
        for label, method in RULER.items()
        if (method, budgets[0]) in moved
    }


def test_answers_are_those_of_the_results_file() -> None:
    rows = {
        (row["task"], row["method"], row["budget"]): row["score"]
        for row in results("answers")["rows"]
        if "/" not in row["task"]
    }
    tasks = list(dict.fromkeys(task for task, _, _ in rows))
    expected = []
    for label, method in ANSWERING.items():
        for budget in sorted({budget for _, other, budget in rows if other == method}):
            name = label if method == "full" else f"{label}, {round(1000 * budget)} per 1,000"
            expected.append([name, *(percent(rows[task, method, budget]) for task in tasks)])
    assert table_after(MEASURED, "assets/results/answers.json") == expected


def test_the_ablation_is_that_of_its_results_file() -> None:
    table = results("ablation")
    expected = [
        [row["run"], *(percent(rate) for rate in row["hit_rate"].values()), f"{row['parameters'] / 1e6:.2f}"]
        for row in sorted(table["rows"], key=lambda row: -sum(row["hit_rate"].values()))
    ]
    assert table_after(TRAINING, "assets/results/ablation.json") == expected


def test_a_step_is_as_much_shorter_as_the_page_says() -> None:
    expected = [
        [
            f"{row['prompt_tokens']:,}",
            f"{row['stored_s']:.2f} s",
            f"{row['recomputed_s']:.2f} s",
            f"{row['ratio']:.1f}",
        ]
        for row in results("bench_step")["rows"]
    ]
    assert table_after(TRAINING, "assets/results/bench_step.json") == expected


def test_the_quick_judge_is_as_quick_and_as_good_as_the_page_says() -> None:
    trained, measured = results("train_quick"), scores("hit_rate_quick")
    assert results("hit_rate_quick")["tokens"] == trained["recipe"]
    assert f"took {trained['metrics']['seconds_of_last_run']:.0f} s" in TRAINING
    first, second, third = (
        f"{100 * (measured['judgeq', budget] - measured['snapkv', budget]):.1f}" for budget in (64, 128, 256)
    )
    assert re.search(
        rf"leads SnapKV by\s{first}, {second} and {third} points at 64, 128 and 256 rows", TRAINING
    )


def test_the_figures_are_of_the_shipped_soft_tokens() -> None:
    shipped = json.loads((ROOT / "assets/soft_tokens/smollm2-135m/judgeq_config.json").read_text("utf-8"))
    for name in (*HIT_RATES, "answers", "ruler", "ruler_moved", "niah"):
        assert results(name)["tokens"] == shipped["recipe"]


def test_every_file_that_the_readme_points_to_exists() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
