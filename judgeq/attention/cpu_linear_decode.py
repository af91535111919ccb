"""Linear layers that keep their bfloat16 weights in a second layout, for products of one row on a CPU.

PyTorch multiplies one row by a bfloat16 matrix no faster than by one in float32, which has twice the bytes. Which
layout is faster depends on the CPU: see `judgeq.models.cpu_trial`. What it takes of the memory: `judgeq.estimate`.
Knows nothing of models or of what is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from judgeq.attention.cpu_linear_prefill import SharedLinear, onednn_product

SMALL, LARGE = 2.0**-4, 2.0**6
"""Rows with their largest number between these, and what comes of them, fit into float16 as they are."""


class Layout(NamedTuple):
    """A way to store weights, and to multiply one row by them.

    Attributes:
        lay_out: weights (out, in) in bfloat16, stored anew.
        multiply: a row (..., in) in bfloat16, what `lay_out` gave and a bias or None: (..., out) in bfloat16.
    """

    lay_out: Callable[[Tensor], Tensor]
    multiply: Callable[[Tensor, Tensor, Tensor | None], Tensor]


def _in_float16(row: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """PyTorch has fast products of one row in float16, summed up in float32.

    float16 has more digits than bfloat16 and a smaller range: a power of two brings the row into it, and back.
    """
    largest = torch.linalg.vector_norm(row, math.inf).item()
    if SMALL <= largest <= LARGE:
        product = F.linear(row.half(), weights).to(row.dtype)
    else:
        power = math.frexp(largest)[1]
        product = F.linear(row.mul(2.0**-power).half(), weights).to(row.dtype).mul_(2.0**power)
    return product if bias is None else product + bias


LAYOUTS = {
    "float16": Layout(Tensor.half, _in_float16),
    "onednn": Layout(lambda weights: torch.ops.mkldnn._reorder_linear_weight(weights, 1), onednn_product),
}
"""By name: as a float16 copy, and in the blocks that oneDNN reads."""


class OneRowLinear(SharedLinear):
    """A linear layer with a second layout of its weights, which must not change any more.

    Training, several rows and other types or devices use the weights themselves.
    """

    def __init__(self, linear: nn.Linear, layout: Layout) -> None:
        """Shares the parameters of `linear`, in bfloat16 on a CPU."""
        super().__init__(linear)
        self._laid_out, self._multiply = layout.lay_out(linear.weight.detach()), layout.multiply

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in PyTorch
        one = input.numel() == self.in_features and not torch.is_grad_enabled()
        if one and input.dtype == torch.bfloat16 and input.device.type == "cpu":
            return self._multiply(input, self._laid_out, self.bias)
        return super().forward(input)


def second_layout_bytes(model: nn.Module) -> int:
    """Bytes of a model's weights in a second layout."""
    laid_out = (each._laid_out for each in model.modules() if isinstance(each, OneRowLinear))
    return sum(each.numel() * each.element_size() for each in laid_out)


def lay_out(model: nn.Module, layout: Layout) -> None:
    """Give all linear layers in bfloat16 a second layout; those whose weights float16 cannot hold are left out."""
    largest = torch.finfo(torch.float16).max
    for name, module in [*model.named_modules()]:
        if type(module) is nn.Linear and module.weight.dtype == torch.bfloat16 and module.weight.abs().max() <= largest:
            model.set_submodule(name, OneRowLinear(module, layout))
