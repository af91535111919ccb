"""judgeq inside other people's programs: kvpress, lm-eval."""
