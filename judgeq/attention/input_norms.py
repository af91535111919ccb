"""How large the hidden states are that attention layers read; an attention call alone does not show them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from judgeq.errors import ModelError

_REGISTERING = threading.Lock()


@contextlib.contextmanager
def noted_input_norms(model: Any) -> Iterator[dict[int, Tensor]]:
    """Within this block, passes of this thread note what each layer's attention reads, before it is computed.

    Yields:
        By layer the L2 norms (B, Q) float32 of the pass that is under way.

    Raises:
        ModelError: the family keeps its attention elsewhere.
    """
    layers: list[Any] = [getattr(layer, "self_attn", None) for layer in model.get_decoder().layers]
    if None in layers:
        raise ModelError("The layers of this model show no self_attn: choose kvzip in place of kvzip+.")
    norms: dict[int, Tensor] = {}
    with contextlib.ExitStack() as stack:
        with _REGISTERING:
            for at, layer in enumerate(layers):
                note = _noting(norms, at, threading.get_ident())
                stack.callback(layer.register_forward_pre_hook(note, with_kwargs=True).remove)
        yield norms


def _noting(norms: dict[int, Tensor], layer: int, owner: int) -> Callable[..., None]:
    """A forward pre-hook of one layer."""

    def note(module: Any, inputs: tuple[Tensor, ...], named: dict[str, Any]) -> None:
        if threading.get_ident() == owner:
            states = inputs[0] if inputs else named["hidden_states"]
            norms[layer] = torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32)

    return note
