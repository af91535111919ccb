"""Hit rate on stored lessons: cheap enough to look at while training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from judgeq.language_model import LanguageModel
from judgeq.scoring import merge_group
from judgeq.soft_tokens import Probe
from judgeq.training.store import Store
from judgeq.training.student import attention_to_lesson
from judgeq.training.workers import Workers

BUDGETS = (64, 128, 256)


@torch.no_grad()
def held_out_hit_rates(
    lm: LanguageModel, probe: Probe, lessons: Store, workers: Workers, budgets: Sequence[int] = BUDGETS
) -> dict[str, float]:
    """Share of the teacher's top rows that the soft tokens find, by budget, averaged over lessons, layers and heads.

    The lessons are shared among the workers; each gets the complete figures.
    """
    sums = dict.fromkeys(budgets, 0.0)
    for index in range(workers.rank, len(lessons), workers.count):
        lesson = lessons[index]
        ours = torch.stack(list(attention_to_lesson(lm, probe, lesson))).cpu()
        teacher = lesson.teacher.float()
        for budget in budgets:
            sums[budget] += _shared_top(merge_group(ours), merge_group(teacher), budget)
    return {f"hit_rate_{budget}": round(workers.total(sums[budget]) / len(lessons), 4) for budget in budgets}


def _shared_top(ours: Tensor, theirs: Tensor, budget: int) -> float:
    """Share of the top rows of `theirs` among those of `ours`, (L, H_kv, T) each, averaged over layers and heads."""
    budget = min(budget, ours.shape[-1])
    mine, wanted = (
        torch.zeros_like(scores).scatter(-1, scores.topk(budget).indices, 1.0) for scores in (ours, theirs)
    )
    return float((mine * wanted).sum(-1).mean() / budget)
