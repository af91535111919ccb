"""The README's figures are those of the results files beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAMES = {"Judge Q": "judgeq", "SnapKV": "snapkv", "StreamingLLM": "streamingllm", "random rows": "random"}
BUDGETS = (64, 128, 256)
ABLATION = {
    "assets/results/hit_rate_embeddings_kl.json": ("embeddings", "kl", 192),
    "assets/results/hit_rate_embeddings_tempered.json": ("embeddings", "tempered", 192),
    "assets/results/hit_rate.json": ("offsets", "tempered", 416),
}


def table_after(marker: str) -> dict[str, list[float]]:
    """The first table behind a marker comment: percentages by the text of the first cell."""
    lines = README.split(marker, 1)[1].splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("|"))
    after = next(at for at, line in enumerate(lines) if at > first and not line.startswith("|"))
    table = {}
    for line in lines[first + 2 : after]:
        name, *figures = (cell.strip(" *`") for cell in line.strip("|").split("|"))
        table[name] = [float(figure.removesuffix(" %")) for figure in figures]
    return table


def measured(path: str) -> dict[tuple[str, int], float]:
    results = json.loads((ROOT / path).read_text(encoding="utf-8"))
    return {(row["method"], row["budget"]): row["score"] for row in results["rows"]}


def percent(scores: dict[tuple[str, int], float], method: str) -> list[float]:
    return [round(100 * scores[method, budget], 1) for budget in BUDGETS]


@pytest.mark.parametrize("path", ["assets/results/hit_rate.json", "assets/results/hit_rate_2k.json"])
def test_hit_rates_are_those_of_the_results_file(path: str) -> None:
    scores = measured(path)
    assert table_after(f"<!-- figures: {path} -->") == {
        name: percent(scores, method) for name, method in NAMES.items()
    }


def test_the_ablation_is_that_of_its_results_files() -> None:
    expected = {}
    for path, (capacity, objective, examples) in ABLATION.items():
        recipe = json.loads((ROOT / path).read_text(encoding="utf-8"))["tokens"]
        assert (recipe.get("capacity", "embeddings"), recipe["objective"], recipe["examples"]) == (
            capacity,
            objective,
            examples,
        )
        options = f"--capacity {capacity} --objective {objective} --examples {examples}"
        expected[options] = percent(measured(path), "judgeq")
    assert table_after("<!-- figures: the ablation -->") == expected


def test_the_shipped_judge_leads_snapkv_by_as_much_as_the_readme_says() -> None:
    leads = {
        path: [round(100 * (scores["judgeq", budget] - scores["snapkv", budget]), 1) for budget in BUDGETS]
        for path in ("assets/results/hit_rate.json", "assets/results/hit_rate_2k.json")
        for scores in [measured(path)]
    }
    below = [lead for found in leads.values() for lead in found if lead < 15]
    assert below == [13.4]
    assert "where the lead is 13.4 points" in README


def test_the_figures_are_of_the_shipped_soft_tokens() -> None:
    shipped = json.loads((ROOT / "assets/soft_tokens/smollm2-135m/judgeq_config.json").read_text("utf-8"))
    for path in ("assets/results/hit_rate.json", "assets/results/hit_rate_2k.json"):
        assert json.loads((ROOT / path).read_text(encoding="utf-8"))["tokens"] == shipped["recipe"]


def test_every_file_that_the_readme_points_to_exists() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target
