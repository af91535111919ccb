"""Progress bars for long work, on standard error so that standard output stays clean."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from tqdm import tqdm


class Bars:
    """One bar a phase; call it as `(phase, done, total, loss)`."""

    def __init__(self) -> None:
        self.phase = ""
        self.bar: Any = tqdm(disable=True)

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def __call__(self, phase: str, done: int, total: int, loss: float | None) -> None:
        if phase != self.phase:
            self.bar.close()
            self.phase, self.bar = phase, tqdm(total=total, initial=done, desc=phase, mininterval=1.0)
        self.bar.update(done - self.bar.n)
        if loss is not None:
            self.bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
