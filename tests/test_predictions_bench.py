"""`python -m benchmarks.predictions`: predictions from kept rows, and with evicted values folded into them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.predictions import WAYS, _fold, main
from judgeq.inference.plan import Plan
from judgeq.inference.prefill import prefill
from judgeq.methods import Full, SnapKV
from judgeq.models.language_model import LanguageModel


@pytest.mark.parametrize("weights", ["mean", "score"])
@pytest.mark.parametrize("least", [-1.0, 0.3, 1.1])
def test_values_are_averaged_where_keys_are_similar(
    lm: LanguageModel, ids: torch.Tensor, weights: str, least: float
) -> None:
    full, kept = prefill(lm, ids, [Plan(Full(), 90), Plan(SnapKV(), 12)]).retained
    cache = kept.cache.fork()
    _fold(cache, full.cache, kept, weights, least)
    for at, layer in enumerate(cache.layers):
        rows, scores = kept.kept[at], kept.scores[at]
        assert isinstance(rows, torch.Tensor)
        assert scores is not None
        torch.testing.assert_close(layer.keys, kept.cache.layers[at].keys)
        keys, values, own = full.cache.layers[at].keys[0, 1], full.cache.layers[at].values[0, 1], rows[0, 1]
        sums, total = torch.zeros(12, 16), torch.zeros(12, 1)
        for row in range(90):
            similar = F.cosine_similarity(keys[row][None], keys[own], dim=-1)
            place = own.tolist().index(row) if row in own else int(similar.argmax())
            if row in own or similar[place] >= least:
                weight = scores[0, 1, row] if weights == "score" else 1.0
                sums[place] += weight * values[row]
                total[place] += weight
        torch.testing.assert_close(layer.values[0, 1], sums / total, rtol=1e-3, atol=1e-4)


def test_every_way_has_its_line(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "predictions.json"
    words = [
        "--methods",
        "snapkv",
        "--budgets",
        "32",
        "--data",
        "records",
        "--examples",
        "2",
        "--max-new-tokens",
        "6",
    ]
    for more, ways in (((), (None,)), (("--fold",), WAYS)):
        assert main(["--model", str(folder), *words, *more, "--json", str(target)]) == 0
        rows = json.loads(target.read_text(encoding="utf-8"))["rows"]
        assert [row["weights"] for row in rows] == [way and way[0] for way in ways]
        assert all(row["kl"] > 0 for row in rows)
