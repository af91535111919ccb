"""Errors that the user can fix.

Every message is one clear sentence that says what to do, so the command line and the demo show it unchanged, with a
code to look it up by. Bugs are never reported as one of these.
"""

from __future__ import annotations

import sys

CODED = ["judgeq"]
"""Packages whose messages have codes; the demo adds its own."""


class JudgeqError(Exception):
    """An error that the user can fix.

    Attributes:
        code: the function that made it, such as `JQ-config-check-budget`; empty where that is not one of this project.
            `python -m judgeq errors CODE` says more.
    """

    def __init__(self, *message: object) -> None:
        super().__init__(*message)
        maker = sys._getframe(1)
        module = maker.f_globals.get("__name__", "")
        self.code = code_of(module, maker.f_code.co_qualname) if module.split(".")[0] in CODED else ""

    @property
    def with_code(self) -> str:
        """The message, and its code in brackets if it has one."""
        return f"{self} [{self.code}]" if self.code else str(self)


class ModelError(JudgeqError):
    """The model cannot be found or loaded, or its kind is not supported."""


class DownloadError(JudgeqError):
    """A file could not be downloaded or stored."""


class InputError(JudgeqError, ValueError):
    """A value is not acceptable; the message names it."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or PyTorch, on a GPU or a CPU, has no memory left. Does not import PyTorch."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator" in str(error)
    )


def code_of(module: str, place: str) -> str:
    """The code of what a function raises.

    Args:
        module: `judgeq.config`, or `app.documents` of the demo.
        place: the function's qualified name; `<locals>` and the like do not count.
    """
    named = f"{module}.{place}".removeprefix("judgeq.")
    parts = [part for part in named.split(".") if not part.startswith("<")]
    return "-".join(["JQ", *(word.lower() for part in parts for word in part.split("_") if word)])
