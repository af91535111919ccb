"""Benchmarks whose prompts, generators and metrics come from lm-eval, an extra; what is here only adapts them.

Knows nothing of methods, budgets or how answers are written.
"""

from judgeq.evaluation.harness.lm_eval_files import LocalFiles
from judgeq.evaluation.harness.lm_eval_tasks import benchmark_names
from judgeq.evaluation.harness.longbench import LONGBENCH_TASKS, longbench_tasks
from judgeq.evaluation.harness.needle import needle_tasks
from judgeq.evaluation.harness.ruler import RULER_GENERATED, RULER_TASKS, ruler_tasks

__all__ = [
    "LONGBENCH_TASKS",
    "RULER_GENERATED",
    "RULER_TASKS",
    "LocalFiles",
    "benchmark_names",
    "longbench_tasks",
    "needle_tasks",
    "ruler_tasks",
]
