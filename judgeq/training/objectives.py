"""How far the soft tokens' attention is from the response's: pure functions of one prompt's tensors.

Letters as in `judgeq.methods.scoring`. Attention to the prompt rows is at least 0 and sums to at most 1. Every
objective takes `(student, teacher, values, temper)`: attention (L, H_kv, G, T) of the soft tokens and of the response,
the prompt's values (L, H_kv, T, D) and the power that `tempered` uses; it gives a scalar, 0 at best, averaged over the
layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-9
RANKED_BUDGETS = (32, 64, 128, 256)
RANK_WIDTH = 0.5  # of the sigmoid around a budget's last row, in units of log attention


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence from teacher to student over the last dimension, both normalised; averaged over the rest."""
    log_student = (student + TINY).log() - (student + TINY).sum(-1, keepdim=True).log()
    target = teacher / teacher.sum(-1, keepdim=True).clamp_min(TINY)
    return F.kl_div(log_student, target, reduction="none").sum(-1).mean()


def kl(student: Tensor, teacher: Tensor, values: Tensor | None, temper: float) -> Tensor:
    """`divergence` between query heads."""
    return divergence(student, teacher)


def mse(student: Tensor, teacher: Tensor, values: Tensor | None, temper: float) -> Tensor:
    """Squared error of attention weights, summed over rows, averaged over query heads (arXiv 2509.10798)."""
    return (student - teacher).square().sum(-1).mean()


def tempered(student: Tensor, teacher: Tensor, values: Tensor | None, temper: float) -> Tensor:
    """`divergence` between the scores that decide: group means, raised to the power `temper`.

    A power below 1 lifts the many rows of middling weight. They fill most of a budget, and plain KL, which follows the
    few heavy rows, hardly counts them.
    """
    ours, theirs = ((attention.mean(-2) + TINY) ** temper for attention in (student, teacher))
    return divergence(ours, theirs)


def pooled(student: Tensor, teacher: Tensor, values: Tensor | None, temper: float) -> Tensor:
    """`tempered` on scores after the max-pooling of width 7 that selection uses."""
    ours, theirs = (F.max_pool1d(attention.mean(-2), 7, 1, 3).unsqueeze(-2) for attention in (student, teacher))
    return tempered(ours, theirs, values, temper)


def value_weighted(student: Tensor, teacher: Tensor, values: Tensor, temper: float) -> Tensor:
    """`tempered`, each row weighted by the length of its value: how much it moves the attention's output.

    CriticalKV (arXiv 2502.03805) selects by a similar product.
    """
    weight = values.float().norm(dim=-1)  # (L, H_kv, T)
    weight = weight / weight.mean(-1, keepdim=True)
    return divergence((student.mean(-2) + TINY) ** temper, weight * (teacher.mean(-2) + TINY) ** temper)


def ranking(student: Tensor, teacher: Tensor, values: Tensor | None, temper: float) -> Tensor:
    """Whether a row belongs to the teacher's top rows, as a classification at several budgets.

    The student's own last kept row is the border; cross entropy of a sigmoid around it, in log attention.
    """
    ours, theirs = (student.mean(-2) + TINY).log(), teacher.mean(-2)
    losses = []
    for budget in RANKED_BUDGETS:
        kept = min(budget, ours.shape[-1] // 2)
        wanted = torch.zeros_like(theirs).scatter(-1, theirs.topk(kept).indices, 1.0)
        border = ours.detach().topk(kept + 1).values[..., -2:].mean(-1, keepdim=True)
        each = F.binary_cross_entropy_with_logits((ours - border) / RANK_WIDTH, wanted, reduction="none")
        losses.append(each.sum(-1).mean() / kept)
    return torch.stack(losses).mean()


def tempered_ranking(student: Tensor, teacher: Tensor, values: Tensor | None, temper: float) -> Tensor:
    """`tempered` with a tenth of `ranking` added."""
    return tempered(student, teacher, values, temper) + 0.1 * ranking(student, teacher, values, temper)


OBJECTIVES: dict[str, Callable[..., Tensor]] = {
    "tempered": tempered,
    "kl": kl,
    "mse": mse,
    "pooled": pooled,
    "values": value_weighted,
    "ranking": ranking,
    "tempered+ranking": tempered_ranking,
}
NEED_VALUES = frozenset({"values"})
"""Objectives that read the prompt's values; the others take None in their place."""
