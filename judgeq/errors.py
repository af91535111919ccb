"""What can go wrong in a way that a person can mend.

Every message is one clear sentence that says what to do, so the command line and the demo can show it as it
is. A bug never becomes one of these.
"""

from __future__ import annotations


class JudgeqError(Exception):
    """A mistake a person can mend."""


class ModelError(JudgeqError):
    """The model cannot be found or loaded, or is of a kind that is not supported."""


class DownloadError(JudgeqError):
    """A file could not be fetched, or could not be stored."""


class InputError(JudgeqError, ValueError):
    """A value is not acceptable; the message names it."""
