"""Logging of errors without what a visitor brought. Knows nothing of Gradio."""

from __future__ import annotations

import logging
import traceback


def log_quietly(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Log where something broke without its message, which may quote a document."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s: %s\nTraceback (most recent call last):\n%s", what, type(error).__name__, frames)
