"""Waiting for what happens elsewhere, in a thread, a process or a browser.

How long it takes is a matter of the machine and of what else it does, so that no test depends on it: `PATIENCE_S` only
ends what hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 120


def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Return as soon as it holds.

    Raises:
        AssertionError: it does not come to hold.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.005)
