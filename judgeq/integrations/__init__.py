"""judgeq inside other tools: `generate` of plain transformers, kvpress, lm-eval."""
