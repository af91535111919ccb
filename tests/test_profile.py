"""A budget and a learned profile in, whole rows for every layer and head out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from judgeq.errors import InputError
from judgeq.soft_tokens.budget_profile import BudgetProfile


def shares(seed: int, spread: float = 1.0, layers: int = 4, heads: int = 2) -> Tensor:
    drawn = torch.randn((layers, heads), generator=torch.Generator().manual_seed(seed)).mul(spread).exp()
    return drawn / drawn.mean()


def profile(*budgets: int, spread: float = 1.0, layers: int = 4) -> BudgetProfile:
    return BudgetProfile(
        torch.tensor(budgets), torch.stack([shares(budget, spread, layers) for budget in budgets]).float()
    )


def test_the_rows_are_the_shares_of_the_budget() -> None:
    found = profile(100)
    assert (found.rows(100, 10_000) - found.shares[0] * 100).abs().max() < 1


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 4.0])
def test_together_they_are_the_budget_and_nobody_gets_nothing_or_too_much(spread: float) -> None:
    found = profile(16, 64, 300, spread=spread)
    for tokens in (1, 2, 7, 90, 1000):
        for budget in (1, 2, 3, 16, 40, 89, 90, 301, 5000):
            rows = found.rows(budget, tokens)
            assert (rows.dtype, rows.shape) == (torch.int64, (4, 2))
            assert int(rows.sum()) == 8 * min(budget, tokens)
            assert int(rows.min()) >= 1
            assert int(rows.max()) <= tokens


def test_equal_shares_are_the_uniform_budget() -> None:
    even = BudgetProfile(torch.tensor([8, 64]), torch.ones(2, 30, 3))
    for budget in (1, 8, 13, 64, 200):
        assert (even.rows(budget, 1000) == budget).all()


def test_what_is_clipped_goes_to_the_others_in_proportion() -> None:
    found = BudgetProfile(torch.tensor([10]), torch.tensor([[[6.0, 0.9], [0.6, 0.5]]]) / 2)
    assert found.rows(10, 25).tolist() == [[25, 7], [4, 4]]  # 30 do not fit; 15 rows as 9 : 6 : 5


def test_equal_remainders_are_rounded_up_from_the_front() -> None:
    found = BudgetProfile(torch.tensor([10]), torch.tensor([[[1.25, 1.25], [1.25, 0.25]]]))
    assert found.rows(10, 99).tolist() == [[13, 13], [12, 2]]


def test_between_two_budgets_the_shares_are_linear_in_the_logarithm() -> None:
    found = profile(16, 256, spread=0.3)
    halfway = (found.shares[0] + found.shares[1]) / 2 * 64  # 64 is the geometric mean
    assert (found.rows(64, 10_000) - halfway).abs().max() < 1
    for budget, at in ((4, 0), (16, 0), (256, 1), (2000, 1)):
        assert (found.rows(budget, 100_000) - found.shares[at] * budget).abs().max() < 1.5


def test_it_survives_a_file_among_other_tensors(tmp_path: Path) -> None:
    found = profile(16, 64)
    save_file({"other": torch.zeros(1), **found.tensors()}, tmp_path / "all.safetensors")
    again = BudgetProfile.from_tensors(load_file(tmp_path / "all.safetensors"))
    assert again is not None
    assert torch.equal(again.budgets, found.budgets)
    assert torch.equal(again.shares, found.shares)
    assert BudgetProfile.from_tensors({"other": torch.zeros(1)}) is None
    with pytest.raises(InputError, match="profile_shares is missing"):
        BudgetProfile.from_tensors({"profile_budgets": found.budgets})


@pytest.mark.parametrize(
    ("budgets", "values", "said"),
    [
        (torch.tensor([]), torch.ones(0, 4, 2), "budgets has shape"),
        (torch.tensor([8.0]), torch.ones(1, 4, 2), "type torch.float32"),
        (torch.tensor([8, 8]), torch.ones(2, 4, 2), "ascending"),
        (torch.tensor([0]), torch.ones(1, 4, 2), "from 1 on"),
        (torch.tensor([8]), torch.ones(4, 2), "shares has shape"),
        (torch.tensor([8]), torch.ones(2, 4, 2), "with 1 budgets"),
        (torch.tensor([8]), torch.full((1, 4, 2), torch.nan), "positive finite"),
        (torch.tensor([8]), torch.tensor([[[0.0, 2.0]]]), "positive finite"),
        (torch.tensor([8]), torch.full((1, 4, 2), 2.0), "mean of 1"),
    ],
)
def test_a_profile_without_meaning_is_refused(budgets: Any, values: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        BudgetProfile(budgets, values)


def test_another_models_profile_is_refused() -> None:
    profile(8).check(4, 2)
    with pytest.raises(InputError, match="another model"):
        profile(8).check(4, 3)
