"""Scores and a budget in, kept rows out."""

from __future__ import annotations

import pytest
import torch

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.methods import selection as choosing
from judgeq.methods.selection import (
    Forced,
    Kept,
    Unsplit,
    order_by_value,
    overlap,
    pool_scores,
    pyramid_rows,
    rank_rows,
    select_rows,
)


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


def test_words_are_kept_as_one_by_their_best_row() -> None:
    words = torch.tensor([[0, 0, 1, 1, 1, 2, 3, 3]])
    drawn = torch.tensor([0.1, 0.2, 0.9, 0.0, 0.0, 0.8, 0.3, 0.7]).expand(1, 1, -1)
    for budget, kept in ((1, [2]), (3, [2, 3, 4]), (4, [2, 3, 4, 5]), (6, [2, 3, 4, 5, 6, 7])):
        assert select_rows(drawn, budget, Selection(pool=1), words)[0, 0].tolist() == kept
    # sinks and the recent window may cut a word, and a word of one row each changes nothing
    assert select_rows(drawn, 4, Selection(sinks=3, pool=1), words)[0, 0].tolist() == [0, 1, 2, 5]
    alone = torch.arange(40).expand(2, -1) * 3
    assert torch.equal(select_rows(scores(), 9, Selection(), alone), select_rows(scores(), 9, Selection()))


def test_equal_scores_keep_the_earlier_rows() -> None:
    assert select_rows(torch.ones(1, 1, 9), 3, Selection(pool=1))[0, 0].tolist() == [0, 1, 2]


def test_kept_rows_are_distinct() -> None:
    kept = select_rows(scores(300), 120, Selection(sinks=4, recent=9, pool=7))
    assert (kept.diff(dim=-1) > 0).all()


# Heads with budgets of their own


def allocate_rows(drawn: torch.Tensor, budget: int, selection: Selection, shares: torch.Tensor | None = None) -> Kept:
    return split(choosing.allocate_rows(rank_rows(drawn, selection), budget, selection, shares))


def split(kept: Kept | Unsplit) -> Kept:
    return kept.rows.split(kept.counts.tolist()) if isinstance(kept, Unsplit) else kept


def lengths(kept: Kept) -> list[int]:
    return [len(rows) for rows in kept]


def test_a_smaller_budget_keeps_the_beginning_of_the_ranking() -> None:
    selection = Selection(sinks=3, recent=5, pool=7)
    ranked, pooled = rank_rows(scores(60), selection)
    for budget in (1, 4, 5, 7, 8, 30, 60):
        assert torch.equal(ranked[..., :budget].sort(-1).values, select_rows(scores(60), budget, selection))
    assert pooled[..., :8].isinf().all()
    assert (pooled.diff(dim=-1)[..., 8:] <= 0).all()


@pytest.mark.parametrize("pool", [1, 7])
def test_the_rows_of_a_layer_go_to_the_best_rows_of_all_its_heads(pool: int) -> None:
    drawn = scores(50)[:1].pow(torch.tensor([[[2.0], [1.0], [0.5]]]))
    kept = allocate_rows(drawn, 10, Selection(pool=pool, allocation="adakv", floor=0))
    pooled = pool_scores(drawn, pool)[0]
    competed = [(head, rows) for head, rows in enumerate(kept) if len(rows) > 1]  # one row is sure
    least = min(float(pooled[head, rows].min()) for head, rows in competed)
    assert sum(lengths(kept)) == 30
    for head, rows in enumerate(kept):
        gone = torch.ones(50, dtype=torch.bool)
        gone[rows] = False
        assert (pooled[head, gone] <= least).all()
        assert torch.equal(rows, select_rows(drawn, len(rows), Selection(pool=pool))[0, head])
    assert lengths(kept)[2] > lengths(kept)[0]


def test_heads_with_equal_scores_share_equally() -> None:
    same = scores(50)[:1, :1].expand(1, 4, 50)
    for drawn in (same, torch.ones(1, 4, 50)):
        for budget in (1, 3, 7, 49):
            selection = Selection(sinks=1, recent=2, allocation="adakv")
            kept = allocate_rows(drawn, budget, selection)
            assert torch.equal(torch.stack(kept), select_rows(drawn, budget, selection)[0])


@pytest.mark.parametrize(
    ("floor", "fewest"), [(0.0, 1), (0.2, 4), (0.21, 5), (0.5, 10), (0.55, 11), (0.85, 17), (1.0, 20)]
)
def test_no_head_falls_below_the_floor(floor: float, fewest: int) -> None:
    drawn = scores(200)[:1] * torch.tensor([[[1e-6], [1.0], [1.0]]])
    kept = allocate_rows(drawn, 20, Selection(pool=1, allocation="adakv", floor=floor))
    assert lengths(kept)[0] == fewest
    assert sum(lengths(kept)) == 60


def test_sinks_and_recent_rows_stay_in_every_head() -> None:
    drawn = scores(80)[:1] * torch.tensor([[[1e-6], [1.0], [1.0]]])
    kept = allocate_rows(drawn, 10, Selection(sinks=2, recent=4, allocation="adakv", floor=0.1))
    assert kept[0].tolist() == [0, 1, 76, 77, 78, 79]
    assert lengths(kept)[0] == 6
    assert {0, 1, 76, 77, 78, 79} <= set(kept[1].tolist()) & set(kept[2].tolist())
    tight = allocate_rows(drawn, 3, Selection(sinks=2, recent=4, allocation="adakv"))
    assert [rows.tolist() for rows in tight] == [[77, 78, 79]] * 3


def test_a_profile_says_how_many_rows_a_head_gets() -> None:
    shares = torch.tensor([1, 9, 25])
    kept = allocate_rows(scores()[:1], 12, Selection(sinks=1, recent=2, allocation="profile"), shares)
    assert lengths(kept) == [1, 9, 25]
    for head, rows in enumerate(kept):
        whole = select_rows(scores()[:1], len(rows), Selection(sinks=1, recent=2))
        assert torch.equal(rows, whole[0, head])


def test_with_both_the_profile_counts_for_the_layer_and_the_scores_for_its_heads() -> None:
    drawn = scores()[:1] * torch.tensor([[[0.1], [0.5], [1.0]]])
    both = allocate_rows(drawn, 99, Selection(allocation="profile+adakv"), torch.tensor([12, 12, 12]))
    alone = allocate_rows(drawn, 12, Selection(allocation="adakv"))
    assert lengths(both) == lengths(alone) != [12, 12, 12]
    one_each = allocate_rows(drawn, 99, Selection(allocation="profile+adakv"), torch.tensor([1, 1, 1]))
    assert lengths(one_each) == [1, 1, 1]


def test_the_whole_prompt_is_kept_where_the_budget_covers_it() -> None:
    for budget in (40, 1000):
        for rows in allocate_rows(scores()[:1], budget, Selection(allocation="adakv")):
            assert torch.equal(rows, torch.arange(40))


def test_a_prompt_of_one_token_keeps_it() -> None:
    selection = Selection(sinks=4, recent=32, allocation="adakv")
    assert lengths(allocate_rows(torch.ones(1, 3, 1), 1, selection)) == [1, 1, 1]
    assert select_rows(torch.ones(1, 3, 1), 1, selection).tolist() == [[[0]] * 3]


def test_several_prompts_at_once_are_refused() -> None:
    with pytest.raises(InputError, match="batch has 2"):
        allocate_rows(scores(), 8, Selection(allocation="adakv"))


# The pyramid


@pytest.mark.parametrize("beta", [1, 3, 20, 1000])
@pytest.mark.parametrize("recent", [0, 8, 32])
def test_a_pyramid_falls_and_costs_exactly_the_budget(recent: int, beta: int) -> None:
    selection = Selection(recent=recent, beta=beta, allocation="pyramid")
    for layers in (1, 2, 7, 30):
        for tokens in (1, 2, 40, 90, 5000):
            for budget in (1, 2, 7, 8, 9, 31, 32, 33, 64, 89, 4999, 9000):
                rows = pyramid_rows(budget, tokens, layers, selection)
                assert (rows.dtype, rows.shape) == (torch.int64, (layers,))
                assert int(rows.sum()) == layers * min(budget, tokens)
                assert int(rows.min()) >= (recent if 0 < recent < budget < tokens else 1)
                assert int(rows.max()) <= tokens
                assert (rows.diff() <= 0).all()


def test_a_pyramid_stands_on_the_recent_window() -> None:
    """(100 - 32) / 20 = 3.4 rows beside the window in the last layer, 2 * 68 - 3.4 in the first."""
    rows = pyramid_rows(100, 10_000, 5, Selection(recent=32, allocation="pyramid"))
    assert (rows - torch.tensor([164.6, 132.3, 100.0, 67.7, 35.4])).abs().max() < 1


def test_a_pyramid_is_cut_at_the_prompt_and_stays_a_line() -> None:
    rows = pyramid_rows(70, 100, 5, Selection(recent=10, allocation="pyramid"))
    assert rows.tolist() == [100, 85, 70, 55, 40]


def test_a_window_that_fills_the_budget_does_not_flatten_the_pyramid() -> None:
    rows = pyramid_rows(20, 1000, 3, Selection(recent=32, allocation="pyramid"))
    assert rows.tolist() == [39, 20, 1]


# Values


def naive_value_choice(scores: list[float], norms: list[float], count: int, selection: Selection) -> list[int]:
    """Two stages by hand: half of the rows by score, the others by score times norm."""
    length = len(scores)
    always = [*reversed(range(length - selection.recent, length)), *range(selection.sinks)]
    inside = range(selection.sinks, length - selection.recent)
    half = selection.pool // 2
    near = {at: [other for other in range(at - half, at + half + 1) if other in inside] for at in inside}
    pooled = {at: max(scores[other] for other in near[at]) for at in inside}
    ranking = sorted(inside, key=lambda at: (-pooled[at], -scores[at], at))
    chosen = [*always, *ranking][: max(count // 2, min(len(always), count))]
    rest = [at for at in ranking if at not in chosen]
    by_worth = sorted(rest, key=lambda at: -(pooled[at] + 1e-4) * norms[at])
    return sorted([*chosen, *by_worth][:count])


@pytest.mark.parametrize("pool", [1, 5])
def test_values_choose_the_second_half(pool: int) -> None:
    drawn, norms = scores(60).double(), scores(60, seed=1).double().exp()
    for selection in (Selection(pool=pool), Selection(sinks=2, recent=6, pool=pool)):
        for budget in (1, 5, 8, 9, 16, 30, 60):
            kept = choosing.allocate_rows(rank_rows(drawn, selection), budget, selection, None, norms)
            for prompt in range(2):
                for head in range(3):
                    wanted = naive_value_choice(
                        drawn[prompt, head].tolist(), norms[prompt, head].tolist(), budget, selection
                    )
                    assert kept[prompt, head].tolist() == wanted


def test_values_change_the_rows_of_a_head_but_not_their_number() -> None:
    drawn, norms = scores(60)[:1], scores(60, seed=1)[:1] + 0.1
    selection = Selection(recent=3, pool=1, allocation="adakv")
    ranked = rank_rows(drawn, selection)
    plain, aware = (split(choosing.allocate_rows(ranked, 12, selection, None, given)) for given in (None, norms))
    assert lengths(plain) == lengths(aware)
    for head, rows in enumerate(aware):
        wanted = naive_value_choice(
            drawn[0, head].tolist(), norms[0, head].tolist(), len(rows), Selection(recent=3, pool=1)
        )
        assert rows.tolist() == wanted
    assert any(not torch.equal(a, b) for a, b in zip(plain, aware, strict=True))


def test_equal_values_change_nothing() -> None:
    rows, pooled = rank_rows(scores(), Selection(sinks=1, recent=2))
    assert torch.equal(order_by_value(rows, pooled, torch.full_like(pooled, 3.0), 9), rows)


@pytest.mark.parametrize("allocation", ["adakv", "profile+adakv"])
def test_heads_compete_alike_on_the_device_and_one_by_one(allocation: str) -> None:
    selection = Selection(sinks=1, recent=2, pool=3, allocation=allocation)
    drawn, norms = scores(40)[:1], scores(40, seed=1)[:1] + 0.1
    shares = torch.tensor([3, 9, 20]) if selection.needs_profile else None
    for dropped in ((), (5, 6, 39)):
        ranked = rank_rows(drawn, selection, Forced(pinned=(7,), dropped=dropped))
        for budget, values in ((1, None), (12, None), (12, norms), (40, norms)):
            found = split(choosing.allocate_rows(ranked, budget, selection, shares, values))
            (rows, pooled), total = ranked, budget * drawn.shape[1] if shares is None else int(shares.sum())
            wanted = []
            for head, count in enumerate(choosing.adaptive_counts(pooled[0], total, selection).tolist()):
                own = rows[:, head : head + 1]
                if values is not None:
                    own = order_by_value(own, pooled[:, head : head + 1], values[:, head : head + 1], count)
                wanted.append(own[0, 0, :count].sort().values.tolist())
            assert [each.tolist() for each in found] == wanted


# Hits


def test_overlap_counts_shared_rows() -> None:
    kept = torch.tensor([[[0, 1, 2, 3], [4, 5, 6, 7]]])
    best = torch.tensor([[[1, 9, 3, 8], [4, 5, 6, 7]]])
    assert overlap(kept, best).item() == pytest.approx((0.5 + 1.0) / 2)


def test_overlap_takes_heads_with_different_numbers_of_rows() -> None:
    kept = torch.tensor([1]), torch.tensor([2, 4, 5, 6, 7, 8])
    best = torch.tensor([[[1, 9, 3, 8], [4, 5, 6, 7]]])
    assert overlap(kept, best).item() == pytest.approx((0.25 + 1.0) / 2)
