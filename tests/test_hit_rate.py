"""Hit rate: counted right, and 1 for whoever keeps what the oracle keeps."""

from __future__ import annotations

import pytest
import torch

from judgeq.evaluation.hit_rate import hit_rates, overlap
from judgeq.language_model import LanguageModel
from judgeq.methods import RandomRows
from judgeq.training.examples import build_examples
from tests.test_training import ARTICLES


def test_overlap_counts_shared_rows() -> None:
    kept = torch.tensor([[[0, 1, 2, 3], [4, 5, 6, 7]]])
    best = torch.tensor([[[1, 9, 3, 8], [4, 5, 6, 7]]])
    assert overlap(kept, best).item() == pytest.approx((0.5 + 1.0) / 2)


def test_random_rows_hit_as_often_as_chance_and_all_rows_always(lm: LanguageModel) -> None:
    examples = build_examples(lm, ARTICLES, 6, tokens=(150, 200), seed=1)
    random, everything = hit_rates(lm, examples, [RandomRows()], [0.3, 1.0], tokens=None, response_tokens=8)
    assert random.mean == pytest.approx(0.3, abs=0.05)
    assert everything.mean == 1.0
    assert len(random.rates) == 6
