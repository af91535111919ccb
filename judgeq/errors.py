"""Errors that the user can fix.

Every message is one clear sentence that says what to do, so the command line and the demo show it unchanged.
Bugs are never reported as one of these.
"""

from __future__ import annotations


class JudgeqError(Exception):
    """An error that the user can fix."""


class ModelError(JudgeqError):
    """The model cannot be found or loaded, or its kind is not supported."""


class DownloadError(JudgeqError):
    """A file could not be downloaded or stored."""


class InputError(JudgeqError, ValueError):
    """A value is not acceptable; the message names it."""
