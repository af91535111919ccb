"""judgeq inside other tools: kvpress, lm-eval."""
