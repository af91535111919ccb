"""Tensors of the soft tokens that are appended to a prompt and of the memory tokens after them, and what they add to a
pass.

Knows the names and types in which they are stored, but no files, nor how they are trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.soft_tokens.adapters import LowRank

TENSOR_NAME = "soft_tokens"
OFFSETS_NAME = "query_offsets"
DOWN_NAME, UP_NAME = "adapter_down.", "adapter_up."
MEMORY_NAME, MEMORY_PREFIX = "memory_tokens", "memory_"
"""What the memory tokens are called, and how the names of their adapters begin."""


@dataclass(frozen=True, eq=False)
class MemoryTokens:
    """Trained tokens that read a prompt and the soft tokens after it; their rows may stay (arXiv 2608.01247).

    The first `m` of them are a set of their own, for any `m`.

    Attributes:
        embeddings: (M, hidden).
        adapters: low-rank terms of the linear maps at their positions; None = none.
    """

    __repr__ = brief

    embeddings: Tensor
    adapters: LowRank | None = None


@dataclass(frozen=True, eq=False)
class SoftTokenTensors:
    """Tensors of the soft tokens that are appended to a prompt.

    Attributes:
        embeddings: (S, hidden), appended to the prompt's embeddings.
        query_offsets: (L, H, S, D), added to the soft tokens' queries, before RoPE, where rows are scored; None = no
            offsets. The model's own forward pass never sees them.
        adapters: low-rank terms of the linear maps at the soft tokens' positions; None = none.
        memory: memory tokens after the soft tokens; None = none.

    With nothing but embeddings this is the paper's form.
    """

    __repr__ = brief

    embeddings: Tensor
    query_offsets: Tensor | None = None
    adapters: LowRank | None = None
    memory: MemoryTokens | None = None

    @property
    def memory_tokens(self) -> int:
        """Number of memory tokens, `M`."""
        return 0 if self.memory is None else len(self.memory.embeddings)

    @property
    def memory_adapters(self) -> LowRank | None:
        """Those of the memory tokens."""
        return None if self.memory is None else self.memory.adapters

    @property
    def appended(self) -> int:
        """Tokens that end a pass, `S + M`."""
        return len(self.embeddings) + self.memory_tokens

    @property
    def positions(self) -> int:
        """Positions that they take after a prompt: both kinds stand at the first ones, where an answer begins."""
        return max(len(self.embeddings), self.memory_tokens)

    def with_memory(self, count: int) -> SoftTokenTensors:
        """The same with the first `count` memory tokens only.

        Raises:
            InputError: there are fewer.
        """
        if count > self.memory_tokens:
            most = self.memory_tokens
            raise InputError(
                f"These soft tokens have {most} memory tokens and {count} memory rows are asked for: ask for {most}"
                if most
                else "These soft tokens have no memory tokens, whose rows could stay: leave the option memory out, or "
                "name soft tokens that were trained with some"
            )
        if self.memory is None or count == self.memory_tokens:
            return self
        kept = replace(self.memory, embeddings=self.memory.embeddings[:count]) if count else None
        return replace(self, memory=kept)

    def place(self, position_ids: Tensor) -> Tensor:
        """Position ids (B, N + S + M) of a pass that ends with these tokens, from ascending ones.

        Memory tokens stand where the first soft tokens do, as an answer's first tokens will.
        """
        follow = position_ids.shape[-1] - self.memory_tokens
        return torch.cat([position_ids[:, :follow], position_ids[:, follow:] - len(self.embeddings)], dim=1)

    def offsets_at(self, lm: LanguageModel, first_position: int) -> Tensor | None:
        """The offsets as they are added after RoPE when the first soft token stands at `first_position`."""
        if self.query_offsets is None:
            return None
        return lm.rotate(self.query_offsets.to(lm.device), first_position)

    def appended_embeddings(self) -> Tensor:
        """(S + M, hidden)."""
        if self.memory is None:
            return self.embeddings
        return torch.cat([self.embeddings, self.memory.embeddings.to(self.embeddings)])

    @contextlib.contextmanager
    def attached(self, lm: LanguageModel) -> Iterator[None]:
        """Within this block, passes of this thread that end with these tokens run through their adapters."""
        soft, memory = len(self.embeddings), self.memory_tokens
        with contextlib.ExitStack() as stack:
            for adapters, count, behind in ((self.adapters, soft, memory), (self.memory_adapters, memory, 0)):
                if adapters is not None:
                    here = adapters.map(lambda tensor: tensor.to(lm.device))
                    stack.enter_context(here.attached(lm, count, behind))
            yield

    def tensors(self) -> dict[str, Tensor]:
        """What is stored, by name: embeddings in float32, all else, which is much more, in float16."""
        stored = {TENSOR_NAME: self.embeddings.contiguous()} | _adapter_tensors(self.adapters)
        if self.query_offsets is not None:
            stored[OFFSETS_NAME] = self.query_offsets.half().contiguous()
        if self.memory is not None:
            stored[MEMORY_NAME] = self.memory.embeddings.contiguous()
            stored |= _adapter_tensors(self.memory.adapters, MEMORY_PREFIX)
        return stored

    @classmethod
    def from_tensors(cls, stored: Mapping[str, Tensor]) -> SoftTokenTensors:
        """Read what `tensors` gives; float32 throughout.

        Raises:
            InputError: no embeddings, or half an adapter.
        """
        if TENSOR_NAME not in stored:
            found = ", ".join(sorted(stored)[:3]) or "nothing"
            raise InputError(f"There is no tensor {TENSOR_NAME} but {found}: name a file that `judgeq train` wrote")
        offsets, memory = stored.get(OFFSETS_NAME), stored.get(MEMORY_NAME)
        return cls(
            stored[TENSOR_NAME].float(),
            None if offsets is None else offsets.float(),
            _read_adapters(stored),
            None if memory is None else MemoryTokens(memory.float(), _read_adapters(stored, MEMORY_PREFIX)),
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


def _adapter_tensors(adapters: LowRank | None, prefix: str = "") -> dict[str, Tensor]:
    """Adapters as they are stored, their names beginning with `prefix`."""
    if adapters is None:
        return {}
    return {
        f"{prefix}{side}{name}": tensor.half().contiguous()
        for side, maps in ((DOWN_NAME, adapters.down), (UP_NAME, adapters.up))
        for name, tensor in maps.items()
    }


def _read_adapters(stored: Mapping[str, Tensor], prefix: str = "") -> LowRank | None:
    """What `_adapter_tensors` gives, from among others; None where there are no adapters of this prefix."""
    down, up = (
        {
            name.removeprefix(prefix + side): tensor.float()
            for name, tensor in stored.items()
            if name.startswith(prefix + side)
        }
        for side in (DOWN_NAME, UP_NAME)
    )
    if down.keys() != up.keys():
        raise InputError(f"Half of the adapter {min(down.keys() ^ up.keys())} is missing: copy the file again")
    return LowRank(*({name: maps[name] for name in sorted(maps)} for maps in (down, up))) if down else None
