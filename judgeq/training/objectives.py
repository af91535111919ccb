"""How far the soft tokens' attention is from the response's: pure functions of two attention tensors.

Letters as in `judgeq.scoring`. Attention to the prompt rows is at least 0 and sums to at most 1.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

TINY = 1e-9


def divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence from teacher to student over the last dimension, both normalised; averaged over the rest."""
    log_student = (student + TINY).log() - (student + TINY).sum(-1, keepdim=True).log()
    target = teacher / teacher.sum(-1, keepdim=True).clamp_min(TINY)
    return F.kl_div(log_student, target, reduction="none").sum(-1).mean()


def kl(student: Tensor, teacher: Tensor, temper: float) -> Tensor:
    """`divergence` between query heads, (H_kv, G, T) each; `temper` is ignored."""
    return divergence(student, teacher)


def mse(student: Tensor, teacher: Tensor, temper: float) -> Tensor:
    """Squared error of attention weights, summed over rows, averaged over query heads (arXiv 2509.10798)."""
    return (student - teacher).square().sum(-1).mean()


def tempered(student: Tensor, teacher: Tensor, temper: float) -> Tensor:
    """`divergence` between the scores that decide: group means, raised to the power `temper`.

    A power below 1 lifts the many rows of middling weight. They fill most of a budget, and plain KL, which follows the
    few heavy rows, hardly looks at them.
    """
    ours, theirs = ((attention.mean(1) + TINY) ** temper for attention in (student, teacher))
    return divergence(ours, theirs)


OBJECTIVES = {"tempered": tempered, "kl": kl, "mse": mse}
