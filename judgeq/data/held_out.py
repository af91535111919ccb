"""Which texts are never trained on: one in ten, decided by a text's name alone, so it never changes."""

from __future__ import annotations

import hashlib

HELD_OUT_SHARE = 10


def is_held_out(name: str) -> bool:
    """Whether what `name` stands for is kept back for evaluation."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0
