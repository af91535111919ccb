"""TOVA (arXiv 2401.06104): attention of the last token alone, the same rows for all heads of a layer.

Made for long answers: each eviction keeps what the token before it attended to.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from judgeq.config import Selection
from judgeq.methods.base import LayerView, Look, Method


@dataclass(frozen=True)
class TOVA(Method):
    """Scores by the attention of the last token, averaged over all query heads of the layer.

    Its authors evict after every token (`Decoding.evict_every=1`). The last row is kept, as in kvpress.
    """

    name = "tova"
    title = "TOVA"
    summary = "Keeps what the last token attends to; made for eviction while an answer is written."
    look = Look("#4f8f3a", "2px,3px", "triangle-down")
    same_rows = True
    queries_needed = 1
    selection: Selection = Selection(recent=1, pool=1)

    @property
    def for_decoding(self) -> bool:
        return True

    def score(self, view: LayerView) -> Tensor:
        scores = view.window_attention(1).mean(2)
        return scores.mean(1, keepdim=True).expand_as(scores)
