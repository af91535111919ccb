"""Progress of long work on standard error: notes, and bars with the remaining time."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

from judgeq.console import sayable


class Progress:
    """Receives the progress of a run and ignores it; the base class of everything that shows it."""

    def note(self, text: str) -> None:
        """A note for the user."""

    def advance(self, phase: str, done: int, total: int, **figures: float) -> None:
        """`done` of `total` steps of a phase are finished; `figures` are what is known now, such as the loss."""


class Bars(Progress):
    """One bar per phase."""

    def __init__(self) -> None:
        self.phase = ""
        self.bar: Any = tqdm(disable=True)

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    def note(self, text: str) -> None:
        tqdm.write(sayable(f"judgeq: {text}", sys.stderr), file=sys.stderr)

    def advance(self, phase: str, done: int, total: int, **figures: float) -> None:
        if phase != self.phase:
            self.bar.close()
            self.phase, self.bar = phase, tqdm(total=total, initial=done, desc=phase, mininterval=1.0)
        self.bar.update(done - self.bar.n)
        if figures:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
