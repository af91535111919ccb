"""Errors that the user can fix.

Every message is one clear sentence that says what to do, so the command line and the demo show it unchanged, with a
code to look it up by. Bugs are never reported as one of these.
"""

from __future__ import annotations


class JudgeqError(Exception):
    """An error that the user can fix."""

    @property
    def code(self) -> str:
        """Where in this library it was raised, such as `JQ-config-check-budget`; empty if it was not.

        `python -m judgeq errors CODE` says more.
        """
        found, trace = "", self.__traceback__
        while trace is not None:
            module, place = trace.tb_frame.f_globals.get("__name__", ""), trace.tb_frame.f_code.co_qualname
            found = code_of(module, place) if module.startswith("judgeq.") else ""
            trace = trace.tb_next
        return found

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


def code_of(module: str, place: str) -> str:
    """The code of what a function raises.

    Args:
        module: `judgeq.config`.
        place: the function's qualified name; `<locals>` and the like do not count.
    """
    parts = [part for part in f"{module}.{place}".split(".")[1:] if not part.startswith("<")]
    return "-".join(["JQ", *(word.lower() for part in parts for word in part.split("_") if word)])
