"""Tensors of the soft tokens that are appended to a prompt, and what they add to a pass.

Knows nothing of files, or of how tensors are trained.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.soft_tokens.adapters import LowRank

TENSOR_NAME = "soft_tokens"
OFFSETS_NAME = "query_offsets"
DOWN_NAME, UP_NAME = "adapter_down.", "adapter_up."


@dataclass(frozen=True, eq=False)
class SoftTokenTensors:
    """Tensors of the soft tokens that are appended to a prompt.

    Attributes:
        embeddings: (S, hidden), appended to the prompt's embeddings.
        query_offsets: (L, H, S, D), added to the soft tokens' queries, before RoPE, where rows are scored; None = no
            offsets. The model's own forward pass never sees them.
        adapters: low-rank terms of the linear maps at the soft tokens' positions; None = none.

    With neither offsets nor adapters this is the paper's form.
    """

    __repr__ = brief

    embeddings: Tensor
    query_offsets: Tensor | None = None
    adapters: LowRank | None = None

    def offsets_at(self, lm: LanguageModel, first_position: int) -> Tensor | None:
        """The offsets as they are added after RoPE when the first soft token stands at `first_position`."""
        if self.query_offsets is None:
            return None
        return lm.rotate(self.query_offsets.to(lm.device), first_position)

    def attached(self, lm: LanguageModel) -> AbstractContextManager[None]:
        """Within this block, passes of this thread that end with the soft tokens run through the adapters."""
        if self.adapters is None:
            return contextlib.nullcontext()
        adapters = self.adapters.map(lambda tensor: tensor.to(lm.device))
        return adapters.attached(lm, positions=self.embeddings.shape[0])

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name: embeddings in float32, all else, which is much more, in float16."""
        stored = {TENSOR_NAME: self.embeddings.contiguous()}
        if self.query_offsets is not None:
            stored[OFFSETS_NAME] = self.query_offsets.half().contiguous()
        if self.adapters is not None:
            for prefix, maps in ((DOWN_NAME, self.adapters.down), (UP_NAME, self.adapters.up)):
                stored |= {prefix + name: tensor.half().contiguous() for name, tensor in maps.items()}
        return stored

    @classmethod
    def from_tensors(cls, stored: dict[str, Tensor]) -> SoftTokenTensors:
        """Read what `tensors` gives; float32 throughout.

        Raises:
            InputError: no embeddings, or half an adapter.
        """
        if TENSOR_NAME not in stored:
            found = ", ".join(sorted(stored)[:3]) or "nothing"
            raise InputError(
                f"There is no tensor {TENSOR_NAME} but {found}: name a file that `judgeq train` wrote"
            )
        down, up = (
            {name.removeprefix(prefix) for name in stored if name.startswith(prefix)}
            for prefix in (DOWN_NAME, UP_NAME)
        )
        if down != up:
            raise InputError(f"Half of the adapter {min(down ^ up)} is missing: copy the file again")
        adapters = LowRank(
            {name: stored[DOWN_NAME + name].float() for name in sorted(down)},
            {name: stored[UP_NAME + name].float() for name in sorted(down)},
        )
        offsets = stored.get(OFFSETS_NAME)
        return cls(
            stored[TENSOR_NAME].float(),
            None if offsets is None else offsets.float(),
            adapters if down else None,
        )


def embed(lm: LanguageModel, token_ids: Tensor) -> Tensor:
    """What the model makes of tokens before its first layer: (n,) int64 -> (n, hidden) float32 on the CPU."""
    look_up = lm.model.get_input_embeddings()  # called, since some families scale what it looks up
    with torch.no_grad():
        return look_up(token_ids.to(look_up.weight.device)).float().cpu()


def text_ids(lm: LanguageModel, text: str) -> Tensor:
    """(n,) int64, the tokens of a text on its own, without any that the tokenizer adds."""
    return torch.tensor(lm.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.int64)


def embedded_text(lm: LanguageModel, text: str) -> SoftTokenTensors:
    """The tokens of a text as soft tokens, with the model's own embeddings."""
    return SoftTokenTensors(embed(lm, text_ids(lm, text)))
