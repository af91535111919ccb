"""KVzip (arXiv 2505.23416): the largest attention that the model pays to a document while it repeats it.

For documents that are evicted before any question is known. Each replay repeats a part of the document after its
complete rows, in a second pass (`judgeq.inference.replay`); KVzip+ also weighs by norms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.attention.softcap import QUERY_BLOCK
from judgeq.config import Selection, check_at_least
from judgeq.errors import InputError
from judgeq.methods.base import LayerView, Look, Method
from judgeq.methods.scoring import attention_logits, norms_by_head


@dataclass(frozen=True)
class KVzip(Method):
    """Scores by the largest attention of a replay, in any query head of a group; the template's head scores 0.

    As in its authors' code the softmax runs over the sinks, the part that is repeated and the replay itself. The heads
    of a layer compete for its rows; competing across layers as well is left out, since layers are evicted in turn.

    Attributes:
        chunk: most tokens of the document that one replay repeats.
    """

    name = "kvzip"
    title = "KVzip"
    summary = "Keeps what the model attends to while it repeats the document; before any question."
    look = Look("#d0543a", "2px,3px", "diamond")
    replays = True
    idle = frozenset({"memory"})
    selection: Selection = Selection(sinks=4, pool=1, allocation="adakv", floor=0.0)
    chunk: int = 2048

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(type(self).__name__, "chunk", self.chunk, 1)

    @property
    def replay_chunk(self) -> int:
        return self.chunk

    def score(self, view: LayerView) -> Tensor:
        if view.replayed is None:
            raise InputError(f"The method {self.name!r} scores a replay: evict with Document.compress")
        first, end = view.replayed
        sinks, own = min(self.selection.sinks, first), end - first
        keys = torch.cat(
            [view.keys[:, :, :sinks], view.keys[:, :, first:end], view.keys[:, :, view.prompt_tokens :]],
            dim=2,
        )
        largest = self._largest(view, keys, sinks, own)
        if self.weighs:
            largest = largest * norms_by_head(view.values[:, :, first:end], view.output_weight(), 2)
        scores = largest.amax(2)
        found = scores.new_zeros(*scores.shape[:2], view.prompt_tokens)
        if view.previous_scores is not None:
            found += view.previous_scores.to(found)
        found[..., first:end] = scores
        return found

    def _largest(self, view: LayerView, keys: Tensor, sinks: int, own: int) -> Tensor:
        """(B, H_kv, G, own), a block of queries at a time.

        Args:
            keys: (B, H_kv, sinks + own + R, D).
        """
        blocks = []
        for at in range(0, view.response_tokens, QUERY_BLOCK):
            asking = view.queries[:, :, at : at + QUERY_BLOCK]
            first = sinks + own + at
            logits = attention_logits(asking, keys[:, :, : first + asking.shape[2]], view.scaling, first, view.softcap)
            paid = logits.softmax(-1)[..., sinks : sinks + own]
            if self.weighs:
                assert view.input_norms is not None
                paid = paid / view.input_norms[:, None, None, at : at + asking.shape[2], None]
            blocks.append(paid.amax(-2))
        return torch.stack(blocks).amax(0)


@dataclass(frozen=True)
class KVzipPlus(KVzip):
    """KVzip whose attention is multiplied with what a row's value adds and divided by the size of what is read.

    That is the L2 norm of the value's projection to the hidden states, over the L2 norm of the layer's input where the
    query stands (KVzip+ in kvpress).
    """

    name = "kvzip+"
    title = "KVzip+"
    summary = "KVzip, weighted by what values add to the hidden states; before any question."
    look = Look("#b8475f", "7px,3px", "star")
    weighs = True
