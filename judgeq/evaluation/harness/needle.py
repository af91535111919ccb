"""Needle in a Haystack: a fact at a given depth of essays of a given length, made by lm-eval's `niah_single_2`.

The essays are chosen in `ruler_documents.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from judgeq.errors import InputError
from judgeq.evaluation.harness.lm_eval_files import LocalFiles
from judgeq.evaluation.harness.ruler import made_task
from judgeq.evaluation.questions import Task
from judgeq.models.language_model import LanguageModel
from judgeq.values import whole_numbers

GENERATOR = "niah_single_2"


def needle_tasks(
    lm: LanguageModel,
    lengths: int | Iterable[int],
    depths: int | Iterable[int],
    count: int,
    *,
    seed: int,
    question_first: bool = False,
    files: LocalFiles | None = None,
) -> list[Task]:
    """Every depth at every length; the needles of a length are the same at all depths.

    Args:
        depths: one or several, percent of the haystack's sentences before the needle.
        lengths, count, seed, question_first, files: as in `ruler_tasks`.

    Raises:
        InputError: lm-eval is missing, a depth outside 0 … 100, or a length that the haystack cannot fill.
    """
    wanted, places = whole_numbers("lengths", lengths), whole_numbers("depths", depths)
    for depth in places:
        if not 0 <= depth <= 100:
            raise InputError(f"A needle has no depth of {depth} %: give percents from 0 to 100")
    options: dict[str, Any] = {"question_first": question_first, "files": files}
    return [
        made_task(lm, "niah", GENERATOR, length, count, f"{seed}:needle:{length}", depth=depth, **options)
        for length in wanted
        for depth in places
    ]
