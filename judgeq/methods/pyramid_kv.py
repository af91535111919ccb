"""PyramidKV (arXiv 2406.02069): SnapKV's scores, and more rows for early layers than for late ones."""

from __future__ import annotations

from dataclasses import dataclass

from judgeq.config import Selection
from judgeq.errors import InputError
from judgeq.methods.base import Look
from judgeq.methods.snapkv import SnapKV


@dataclass(frozen=True)
class PyramidKV(SnapKV):
    """SnapKV with a budget that falls from layer to layer, see `selection.pyramid_rows`."""

    name = "pyramidkv"
    title = "PyramidKV"
    summary = "SnapKV with larger budgets in early layers."
    look = Look("#a862c2", "2px,3px", "triangle-up")
    selection: Selection = Selection(recent=32, pool=7, allocation="pyramid")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.selection.is_pyramid:
            raise InputError(
                f"Selection.allocation is {self.selection.allocation!r} and pyramidkv is SnapKV with a pyramid: choose "
                "pyramid or pyramid+adakv, or the method snapkv"
            )
