"""From the teacher attention of the training set to a budget profile: which heads get more rows."""

from __future__ import annotations

import torch
from torch import Tensor

from judgeq.methods.scoring import merge_group
from judgeq.soft_tokens.budget_profile import BudgetProfile
from judgeq.training.store import Store

BUDGETS = (16, 32, 64, 128, 256, 512)
SMALLEST_SHARE = 0.25  # of the uniform budget, for the head that deserves least
MOST_EXAMPLES = 256


def learn_profile(train_set: Store) -> BudgetProfile:
    """Split each budget over layers and heads so that the kept rows hold the most teacher attention.

    A head's k-th best row holds a certain attention, averaged over examples; the best split for a total takes the rows
    with the highest such averages, whichever head they belong to.
    """
    gains = mean_sorted_attention(train_set)
    budgets = torch.tensor([budget for budget in BUDGETS if budget < gains.shape[-1]] or [1])
    return BudgetProfile(budgets, torch.stack([best_shares(gains, int(budget)) for budget in budgets]))


def mean_sorted_attention(train_set: Store) -> Tensor:
    """Attention of each head's best row, second-best row and so on, averaged over examples: (L, H_kv, K) float32.

    `K` is the shortest length that covers the largest budget several times, or the longest prompt.
    """
    longest, total = 8 * BUDGETS[-1], torch.zeros(())
    count = min(len(train_set), MOST_EXAMPLES)
    for index in range(count):
        attention = merge_group(train_set[index].teacher.float()).sort(dim=-1, descending=True).values
        short = attention[..., :longest]
        padded = torch.nn.functional.pad(short, (0, longest - short.shape[-1]))
        total = total + padded / count
    used = int((total.sum((0, 1)) > 0).sum())
    return total[..., : max(used, 1)]


def best_shares(gains: Tensor, budget: int) -> Tensor:
    """Shares (L, H_kv) of a uniform budget, mean 1, that collect the most of `gains` (L, H_kv, K), falling in K."""
    layers, heads, depth = gains.shape
    chosen = gains.flatten().topk(min(layers * heads * budget, gains.numel())).indices // depth
    rows = torch.bincount(chosen, minlength=layers * heads).float().view(layers, heads)
    shares = (rows / budget).clamp_min(SMALLEST_SHARE)
    return shares / shares.mean()
