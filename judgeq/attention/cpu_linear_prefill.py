"""Linear layers whose float32 products of many rows are oneDNN's, for CPUs where PyTorch's default library is slow.

PyTorch sends float32 products to MKL, unless the whole process allows a lower precision. oneDNN computes them in
float32 too, on some CPUs, such as AMD's, up to twice as fast. It is called for these layers alone, so that nothing
changes for the rest of the process. Products of few rows are left to the default library.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEW_ROWS = 32
"""Products of no more rows are not worth another library: on some CPUs oneDNN is much slower there."""


class SharedLinear(nn.Linear):
    """A linear layer with the parameters of another one, whose place in a model it can take."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias


class ManyRowsLinear(SharedLinear):
    """One whose products of many rows in float32 on a CPU are oneDNN's; all others are PyTorch's, as with gradients."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in PyTorch
        many = input.numel() > FEW_ROWS * self.in_features and not torch.is_grad_enabled()
        if many and _in_float32_here(input) and _in_float32_here(self.weight):
            return onednn_product(input, self.weight, self.bias)
        return super().forward(input)


def onednn_product(rows: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """Rows (..., in) by weights (out, in), as they are or in oneDNN's own layout, and a bias or None: (..., out)."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weights, bias, "none", [], "")
    return product


def has_two_libraries() -> bool:
    """Whether this PyTorch has oneDNN and sends float32 products to MKL."""
    return torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()


def use_onednn(model: nn.Module) -> None:
    """Let the linear layers of a model that are in float32 on a CPU multiply many rows with oneDNN, if it is there."""
    if not has_two_libraries():
        return
    for name, module in [*model.named_modules()]:
        if type(module) is nn.Linear and _in_float32_here(module.weight):
            model.set_submodule(name, ManyRowsLinear(module))


def _in_float32_here(tensor: Tensor) -> bool:
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu"
