"""A model that is one free tensor."""

from __future__ import annotations

from torch import Tensor, nn


class FreeParameter(nn.Module):
    """The point at which a function is evaluated, as a model.

    Args:
        value: initial value of `weight`, the only parameter; any shape.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(value)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inner products with `weight`: (batch, dim) x (dim,) -> (batch,)."""
        return inputs @ self.weight


def add_grad(parameter: nn.Parameter, grad: Tensor) -> None:
    """Add to `parameter.grad`, as autograd does; the parameter may take `grad` for its own."""
    if parameter.grad is None:
        parameter.grad = grad
    else:
        parameter.grad.add_(grad)
