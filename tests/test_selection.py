"""Scores and a budget in, kept rows out."""

from __future__ import annotations

import torch

from judgeq.config import Selection
from judgeq.selection import pool_scores, select_rows


def scores(tokens: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand((2, 3, tokens), generator=torch.Generator().manual_seed(seed))


def test_the_top_scored_rows_are_kept_in_order() -> None:
    kept = select_rows(scores(), 7, Selection(pool=1))
    best = scores().topk(7, -1).indices.sort(-1).values
    assert torch.equal(kept, best)


def test_a_budget_of_the_whole_prompt_or_more_keeps_everything() -> None:
    for budget in (40, 41, 1000):
        assert torch.equal(select_rows(scores(), budget, Selection())[1, 2], torch.arange(40))


def test_sinks_and_recent_rows_stay_inside_the_budget() -> None:
    kept = select_rows(scores(), 10, Selection(sinks=2, recent=3, pool=1))
    assert kept.shape == (2, 3, 10)
    assert (kept[..., :2] == torch.tensor([0, 1])).all()
    assert (kept[..., -3:] == torch.tensor([37, 38, 39])).all()
    middle = scores()[..., 2:37].topk(5, -1).indices.sort(-1).values + 2
    assert torch.equal(kept[..., 2:7], middle)


def test_the_recent_window_wins_when_the_budget_is_smaller_than_both() -> None:
    kept = select_rows(scores(), 4, Selection(sinks=2, recent=3))
    assert kept[0, 0].tolist() == [0, 37, 38, 39]
    assert select_rows(scores(), 2, Selection(sinks=2, recent=3))[0, 0].tolist() == [38, 39]


def test_pooling_keeps_the_neighbours_of_a_peak() -> None:
    peak = torch.zeros(1, 1, 40)
    peak[..., 20] = 1.0
    assert select_rows(peak, 7, Selection(pool=7))[0, 0].tolist() == list(range(17, 24))


def test_pooling_never_loses_the_peaks_themselves() -> None:
    rows = scores(200)
    kept = select_rows(rows, 12, Selection(pool=7))
    best = rows.argmax(-1, keepdim=True)
    assert (kept == best).any(-1).all()


def test_pooling_is_the_maximum_over_the_neighbourhood() -> None:
    rows = scores(11)
    expected = [rows[..., max(0, at - 1) : at + 2].amax(-1) for at in range(11)]
    assert torch.equal(pool_scores(rows, 3), torch.stack(expected, -1))


def test_equal_scores_keep_the_earlier_rows() -> None:
    assert select_rows(torch.ones(1, 1, 9), 3, Selection(pool=1))[0, 0].tolist() == [0, 1, 2]


def test_kept_rows_are_distinct() -> None:
    kept = select_rows(scores(300), 120, Selection(sinks=4, recent=9, pool=7))
    assert (kept.diff(dim=-1) > 0).all()
