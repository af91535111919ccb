"""Text to token ids with character offsets; files to text.

The names of `judgeq.prompts.prompt` are imported when they are first used: the process that reads foreign files runs
without torch.
"""

from importlib import import_module
from typing import Any

__all__ = ["Message", "Prompt", "build_chat", "build_prefix", "build_prompt"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("judgeq.prompts.prompt"), name)
