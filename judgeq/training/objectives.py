"""How far the soft tokens' attention is from the response's: pure functions of two attention tensors."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

TINY = 1e-9


def kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence from teacher to student, both normalised over the prompt, averaged over heads.

    Args:
        student, teacher: (..., T) attention to the prompt rows, at least 0.
    """
    log_student = (student + TINY).log() - (student + TINY).sum(-1, keepdim=True).log()
    target = teacher / teacher.sum(-1, keepdim=True).clamp_min(TINY)
    return F.kl_div(log_student, target, reduction="none").sum(-1).mean()


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error between attention weights, summed over rows and averaged over heads (arXiv 2509.10798)."""
    return (student - teacher).square().sum(-1).mean()


OBJECTIVES = {"kl": kl, "mse": mse}
