"""Causal attention of several tokens that follow any number of rows, without repeating rows for query heads.

transformers builds one mask for all layers, from the first of them. Layers with other numbers of rows need none unless
tokens are hidden: then the mask covers all tokens that were seen, and each layer takes its rows' part of it. Knows
nothing of caches or models.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from judgeq.attention.softcap import masked_attention
from judgeq.errors import InputError

QUERY_ROWS = 768
"""Queries, counted for each head of a group, that one call attends with: it bounds the mask. From here on PyTorch's
kernel for CPUs works in large blocks."""


def later_part(mask: Tensor, later: int, kept: int) -> Tensor:
    """The part of a mask for the tokens that came after rows were chosen.

    Args:
        mask: (B, 1 or H, S, seen), true where a query sees a token, or what is added to its logits.
        later: tokens after the choice, the queries' own included.
        kept: rows that were chosen among the tokens before.

    Returns:
        (B, 1 or H, S, later).

    Raises:
        InputError: the mask has another number of tokens, or hides some of those that were chosen among.
    """
    before = mask.shape[-1] - later
    check_places(mask.shape[-1], kept + later)
    chosen_among = mask[..., :before]
    check_seen(chosen_among if mask.dtype == torch.bool else chosen_among == 0)
    return mask[..., before:]


def check_places(places: int, tokens: int) -> None:
    """Raise an `InputError` where an attention mask is shorter than the tokens."""
    if places < tokens:
        raise InputError(
            f"The attention mask has {places:,} places for {tokens:,} tokens: give one for every token, those of "
            "earlier turns included"
        )


def check_seen(chosen_among: Tensor) -> None:
    """Raise an `InputError` where a mask, true for what is seen, hides tokens that rows were chosen among."""
    if not chosen_among.all():
        raise InputError(
            "The attention mask hides tokens of the prompt, whose rows were kept without it: hide later tokens only, "
            "and read prompts of different length with judgeq.ask_many or one by one"
        )


@dataclass(frozen=True)
class UnmaskedCausal:
    """Causal attention that needs no mask: what a cache layer sets as `own_attention` of the keys that it returns.

    Attributes:
        kept: the first rows, which were chosen among the tokens before them; each other row is a token of its own.
    """

    kept: int = 0

    def attention(
        self,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        scaling: float,
        softcap: float | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """See `OwnAttention`.

        The query heads of a group take the place of positions, block by block, each against the rows up to its own
        last token: memory grows with K, not with S * K.
        """
        count, earlier = queries.shape[2], keys.shape[2] - queries.shape[2]
        grouped = queries.unflatten(1, (keys.shape[1], -1))  # (B, H_kv, G, S, D)
        group = grouped.shape[2]
        if mask is not None:
            mask = self._of_rows(mask, queries.shape[1], keys.shape[2]).unflatten(1, (keys.shape[1], -1))
        step = max(1, QUERY_ROWS // group)
        blocks = []
        for first in range(0, count, step):
            block = grouped[:, :, :, first : first + step]
            size = block.shape[3]
            seen = earlier + first + size if mask is None else keys.shape[2]
            if mask is None:
                visible = torch.ones(size, seen, dtype=torch.bool, device=keys.device).tril(seen - size)
                visible = visible.repeat(group, 1)
            else:
                visible = mask[:, :, :, first : first + size].flatten(2, 3)
            attended = masked_attention(
                block.flatten(2, 3), keys[:, :, :seen], values[:, :, :seen], visible, scaling, softcap
            )
            blocks.append(attended.unflatten(2, (group, size)))
        return torch.cat(blocks, dim=3).flatten(1, 2).transpose(1, 2).contiguous()

    def _of_rows(self, mask: Tensor, heads: int, rows: int) -> Tensor:
        """The mask of this layer's rows, (B, H, S, K); see `later_part`."""
        if mask.shape[-1] != rows:
            mask = F.pad(later_part(mask, rows - self.kept, self.kept), (self.kept, 0), value=mask.dtype == torch.bool)
        return mask.expand(-1, heads, -1, -1)
