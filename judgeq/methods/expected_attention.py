"""Expected Attention (arXiv 2510.00636): attention that later queries would pay if they were like the prompt's own.

They are taken as normally distributed, with the mean and covariance of the prompt's queries.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.config import Selection, check_at_least
from judgeq.methods.base import LayerView, Look, Method


@dataclass(frozen=True)
class ExpectedAttention(Method):
    """Scores by `exp(m k + k C k / 2)`, normalised over rows, and the L2 norm of the value.

    `m` and `C` are mean and covariance of the prompt's queries before RoPE, rotated by the average over the positions
    that follow. The sinks take no part. While an answer is written only the queries since the previous eviction count.
    A soft cap of attention logits is not considered.

    Attributes:
        queries: so many of the prompt's last queries are counted, and read in one pass; None = all, as its authors do.
        future: positions after the prompt that are averaged over.
        epsilon: added to the attention before it is multiplied with the norms.
    """

    name = "expectedattention"
    title = "Expected Attention"
    summary = "Keeps what later tokens are expected to attend to, going by the prompt's own queries."
    look = Look("#2f7fb5", "5px,2px,2px,2px,2px,2px", "star")
    selection: Selection = Selection(sinks=4, pool=1)
    queries: int | None = None
    future: int = 512
    epsilon: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries is not None:
            check_at_least("ExpectedAttention", "queries", self.queries, 1)
        check_at_least("ExpectedAttention", "future", self.future, 1)
        check_at_least("ExpectedAttention", "epsilon", self.epsilon, 0)

    @property
    def queries_needed(self) -> int:
        return sys.maxsize if self.queries is None else self.queries

    def score(self, view: LayerView) -> Tensor:
        sinks = min(self.selection.sinks, view.prompt_tokens - 1)
        keys, values = (rows[:, :, sinks:].float() for rows in view.prompt_rows)
        means, covariances = self._queries_to_come(view, sinks)
        attention = torch.zeros_like(keys[..., 0])
        groups = means.shape[1] // keys.shape[1]
        for group in range(groups):
            mean, covariance = means[:, group::groups], covariances[:, group::groups]
            logits = (keys @ mean[..., None])[..., 0] * view.scaling
            logits += ((keys @ covariance) * keys).sum(-1) * (view.scaling**2 / 2)
            attention += logits.softmax(-1) / groups
        scores = (attention + self.epsilon) * torch.linalg.vector_norm(values, dim=-1)
        return torch.cat([scores.amax(-1, keepdim=True).expand(-1, -1, sinks), scores], dim=-1)

    def _queries_to_come(self, view: LayerView, sinks: int) -> tuple[Tensor, Tensor]:
        """Mean (B, H, D) and covariance (B, H, D, D) of later queries; those of the sinks would distort them."""
        asking = view.queries[:, :, : view.prompt_queries]
        before = view.prompt_tokens - view.prompt_queries
        asking = asking[:, :, min(max(0, sinks - before), asking.shape[2] - 1) :]
        if self.queries is not None:
            asking = asking[:, :, -self.queries :]
        later = view.rotate_ahead(asking, self.future)
        mean = later.mean(2, keepdim=True)
        centred = later - mean
        return mean[:, :, 0], centred.transpose(2, 3) @ centred / later.shape[2]
