"""How the page's events are queued and shown, once for all views."""

from __future__ import annotations

from typing import Any

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
LIGHT = {**QUIET, "queue": False}
"""For events that are quick and cannot fail: an error outside the queue would reach the page as a status of 500."""
QUEUED = {**QUIET, "concurrency_limit": None}
"""For what may raise `gr.Error`, or yields."""
