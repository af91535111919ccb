"""ChunkKV (arXiv 2502.00299): whole chunks of neighbouring rows, by the attention of the prompt's last queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.config import Selection, check_at_least
from judgeq.methods.base import LayerView, Look
from judgeq.methods.snapkv import SnapKV


@dataclass(frozen=True)
class ChunkKV(SnapKV):
    """Scores every row by the mean of its chunk, averaged over the heads of the layer, which keep the same chunks.

    The last chunk that the budget has room for is cut, so that every head keeps its budget; kvpress leaves it out. Each
    layer chooses for itself: the paper's reuse of one layer's choice in the next ones saves time, and is left out.

    Attributes:
        chunk: rows of a chunk, 10 in the paper; the prompt's last one may be shorter.
    """

    name = "chunkkv"
    title = "ChunkKV"
    summary = "Keeps whole chunks that the last tokens attend to."
    look = Look("#8c6bd1", "12px,4px", "square")
    same_rows = True
    idle = frozenset({"pool", "unit"})  # it would blur the borders of chunks
    selection: Selection = Selection(recent=32, pool=1)
    chunk: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least("ChunkKV", "chunk", self.chunk, 1)

    def score(self, view: LayerView) -> Tensor:
        scores = super().score(view)
        tokens = scores.shape[-1]
        padded = F.pad(scores.mean(1, keepdim=True), (0, -tokens % self.chunk), value=torch.nan)
        means = padded.unflatten(-1, (-1, self.chunk)).nanmean(-1)  # (B, 1, chunks)
        return means.repeat_interleave(self.chunk, dim=-1)[..., :tokens].expand_as(scores)
