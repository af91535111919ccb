"""What counts as the same rows where machines round differently."""

from __future__ import annotations

import pytest
import torch

from tests.rounding import moved_rows

KEPT = [torch.arange(10).reshape(1, 2, 5), None, (torch.arange(3), torch.arange(7))]


def test_equal_rows_in_another_order_are_the_same() -> None:
    assert moved_rows(KEPT, [KEPT[0].flip(-1), None, KEPT[2]]) == 0


def test_a_row_at_the_cut_may_be_another() -> None:
    assert moved_rows(KEPT, [KEPT[0], None, (torch.tensor([0, 1, 9]), KEPT[2][1])]) == 1


def test_rows_that_are_worth_the_same_may_change_places_and_others_may_not() -> None:
    ours, theirs = ([torch.tensor([[[0, 1, 2, start, start + 1]]])] for start in (4, 7))
    assert moved_rows(ours, theirs, [torch.ones(1, 1, 10)]) == 2
    ours, theirs = ([torch.arange(start, start + 5).reshape(1, 1, 5)] for start in (0, 5))
    assert moved_rows(ours, theirs, [torch.ones(1, 1, 10)]) == 5
    with pytest.raises(AssertionError, match="5 of 5 rows are others"):
        moved_rows(ours, theirs, [torch.arange(10.0).reshape(1, 1, 10)])


@pytest.mark.parametrize(
    "other",
    [
        [KEPT[0] + 1, None, (torch.arange(1, 4), torch.arange(1, 8))],
        [KEPT[0], None, (torch.arange(4), torch.arange(7))],
    ],
    ids=["each head has another", "one more"],
)
def test_more_than_that_is_noticed(other: list) -> None:
    with pytest.raises(AssertionError):
        moved_rows(KEPT, other)
