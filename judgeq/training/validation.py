"""Hit rate on stored examples: cheap enough to measure while training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from judgeq.config import Selection
from judgeq.methods.scoring import merge_group
from judgeq.methods.selection import overlap, select_rows
from judgeq.models.language_model import LanguageModel
from judgeq.soft_tokens.tensors import SoftTokenTensors
from judgeq.training.store import Store
from judgeq.training.trainable import attention_to_example
from judgeq.training.workers import Workers

BUDGETS = (64, 128, 256)
TOP = Selection(pool=1)


@torch.no_grad()
def held_out_hit_rates(
    lm: LanguageModel,
    weights: SoftTokenTensors,
    train_set: Store,
    workers: Workers,
    budgets: Sequence[int] = BUDGETS,
) -> dict[str, float]:
    """Share of the teacher's top rows that the soft tokens find, by budget, averaged over examples, layers and heads.

    The examples are shared among the workers; each gets the complete figures.
    """
    sums = dict.fromkeys(budgets, 0.0)
    for index in range(workers.rank, len(train_set), workers.count):
        example = train_set[index]
        ours = merge_group(attention_to_example(lm, weights, example).cpu())
        teacher = merge_group(example.teacher.float())
        for budget in budgets:
            found, wanted = (select_rows(scores, budget, TOP) for scores in (ours, teacher))
            sums[budget] += float(overlap(found, wanted))
    return {
        f"hit_rate_{budget}": round(workers.total(sums[budget]) / len(train_set), 4) for budget in budgets
    }
