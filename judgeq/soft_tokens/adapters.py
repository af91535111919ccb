"""Low-rank adapters that act on the soft or memory tokens' positions alone (the idea of LookaheadKV, arXiv 2603.10899).

The base model is not changed: while a pass runs, each linear map adds a low-rank term to its output at those
positions; before and after that pass, and for the prompt's positions at any time, the model is what it was.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from judgeq.errors import InputError
from judgeq.models.language_model import LanguageModel
from judgeq.objects import brief
from judgeq.values import seed64

_NUMBERING = threading.Lock()
"""Held while hooks are added: PyTorch may number two of two threads alike, and one takes the other's place."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """One low-rank term for each adapted linear map.

    Attributes:
        down: (in features, rank), by the map's name inside the base model.
        up: (rank, out features), by the same names.
    """

    __repr__ = brief

    down: dict[str, Tensor]
    up: dict[str, Tensor]

    @classmethod
    def zero(cls, lm: LanguageModel, rank: int, seed: int) -> LowRank:
        """Adapters of every linear map in the layers; they add nothing until they are trained."""
        generator = torch.Generator().manual_seed(seed64(seed))
        down, up = {}, {}
        for name, linear in _linear_maps(lm).items():
            wide, narrow = linear.in_features, linear.out_features
            down[name] = torch.randn(wide, rank, generator=generator) / math.sqrt(wide)
            up[name] = torch.zeros(rank, narrow)
        return cls(down, up)

    @property
    def rank(self) -> int:
        """Width of the narrow side."""
        return next(iter(self.up.values())).shape[0]

    def map(self, change: Callable[[Tensor], Tensor]) -> LowRank:
        """The same adapters with every tensor changed, such as moved to another device."""
        return LowRank(
            {name: change(tensor) for name, tensor in self.down.items()},
            {name: change(tensor) for name, tensor in self.up.items()},
        )

    def check(self, lm: LanguageModel) -> None:
        """Refuse, with an `InputError`, a base model whose linear maps have other names or sizes."""
        maps = _linear_maps(lm)
        ours = {name: (tensor.shape[0], self.up[name].shape[1]) for name, tensor in self.down.items()}
        theirs = {name: (linear.in_features, linear.out_features) for name, linear in maps.items()}
        if ours != theirs:
            if any(".base_layer" in name for name in maps):
                raise InputError(
                    f"{lm.name} has adapters of PEFT inside, to which those of these soft tokens cannot be added: "
                    "merge them with `merge_and_unload()` before the model is wrapped"
                )
            wrong = min(set(ours.items()) ^ set(theirs.items()))[0]
            raise InputError(
                f"The adapters do not fit {lm.name} (they differ at {wrong}): the file was changed by hand or "
                "belongs to another model"
            )

    @contextlib.contextmanager
    def attached(self, lm: LanguageModel, positions: int, behind: int = 0) -> Iterator[None]:
        """Within this block, passes of this thread add the adapters' terms at `positions` positions.

        Args:
            behind: positions that follow these, at the end of the pass.
        """
        own = slice(-positions - behind, -behind or None)
        owner = threading.get_ident()
        with contextlib.ExitStack() as stack:
            with _NUMBERING:
                for name, linear in _linear_maps(lm).items():
                    hook = _term(self.down[name], self.up[name], own, owner)
                    stack.callback(linear.register_forward_hook(hook).remove)
            yield


def _term(down: Tensor, up: Tensor, positions: slice, owner: int) -> Callable[..., None]:
    """A forward hook of one linear map."""

    def add(linear: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if threading.get_ident() == owner:
            soft, adapted = inputs[0], output
            if len(range(*positions.indices(soft.shape[-2]))) < soft.shape[-2]:  # gradients of a part take copies
                soft, adapted = soft[..., positions, :], adapted[..., positions, :]
            adapted.add_(((soft @ down.to(soft)) @ up.to(soft)).to(output.dtype))

    return add


def _linear_maps(lm: LanguageModel) -> dict[str, Any]:
    """Every linear map inside the model's layers, quantized ones included.

    Experts and what chooses among them are left out: they do not see the tokens in their order.
    """
    layers = lm.model.get_decoder().layers
    return {
        name: module
        for name, module in layers.named_modules()
        if isinstance(module, nn.Linear) and not re.search("expert|router", name)
    }
