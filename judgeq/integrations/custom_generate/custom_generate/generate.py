"""`model.generate(custom_generate=…)`: judgeq reads the prompt, keeps its most important rows and continues."""

from functools import partial

from judgeq.integrations.generate import generate as from_evicted_cache

SOFT_TOKENS = None
"""Folder or Hub repository of those that are taken by default; None takes those shipped with judgeq."""

generate = partial(from_evicted_cache, soft_tokens=SOFT_TOKENS)
