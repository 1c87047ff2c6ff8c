"""Gradient of a loss looked at ahead, after further steps with learned rates (La-MAML)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Looked(NamedTuple):
    """The meta-loss, and its gradients.

    Args:
        loss: a scalar, detached.
        grads: for the parameters.
        rate_grads: for the rates.
    """

    loss: Tensor
    grads: list[Tensor]
    rate_grads: list[Tensor]


def look_ahead(
    parameters: Sequence[Tensor],
    rates: Sequence[Tensor],
    inner: Sequence[Callable[[Sequence[Tensor]], Tensor]],
    outer: Callable[[Sequence[Tensor]], Tensor],
    clip: float,
    second_order: bool,
) -> Tensor:
    """Mean of an outer loss along steps on inner losses, as a function of parameters and rates.

        theta_0 = parameters,   theta_{i+1} = theta_i - rate * clamp(grad inner_i(theta_i))
        meta-loss = mean over i >= 1 of outer(theta_i)
                                                          [Gupta et al. 2020, algorithms 1 and 2]

    The gradient of an inner loss is clamped entry by entry to [-clip, clip], as in the code of
    Avalanche, where Gupta et al. cut its length.

    Args:
        parameters, rates: as many tensors, of equal shapes; what depends on them is differentiable
            where they ask for it.
        inner: the loss of each step, a scalar, of the parameters.
        outer: the loss that is looked at.
        second_order: differentiate the inner gradients too; else they count as constants.
    Returns:
        The meta-loss, a scalar with its graph.
    """
    values, losses = list(parameters), []
    for loss in inner:
        grads = torch.autograd.grad(
            loss(values), values, create_graph=second_order, allow_unused=True
        )
        values = [
            value if grad is None else value - rate * grad.clamp(-clip, clip)
            for value, rate, grad in zip(values, rates, grads, strict=True)
        ]
        losses.append(outer(values))
    return torch.stack(losses).mean()


def look_ahead_gradients(
    parameters: Sequence[Tensor],
    rates: Sequence[Tensor],
    inner: Sequence[Callable[[Sequence[Tensor]], Tensor]],
    outer: Callable[[Sequence[Tensor]], Tensor],
    clip: float,
    second_order: bool,
) -> Looked:
    """The meta-loss of `look_ahead`, and its gradients for parameters and rates.

    Both gradients are cut to length `clip`, each over all its tensors. Zero is said for what the
    loss does not depend on.
    """
    rates = [rate.detach().requires_grad_() for rate in rates]
    loss = look_ahead(parameters, rates, inner, outer, clip, second_order)
    wanted = [*parameters, *rates]
    grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    count = len(parameters)
    both = [cut(grads[:count], clip), cut(grads[count:], clip)]
    return Looked(loss.detach(), *both)


def cut(tensors: Sequence[Tensor], length: float) -> list[Tensor]:
    """The tensors, scaled so that their Euclidean length, all together, is at most `length`."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(tensors))))
    # As in torch's own clipping of gradients.
    return torch._foreach_mul(list(tensors), (length / (norm + 1e-6)).clamp(max=1.0))


def chunks(count: int, num_steps: int) -> list[slice]:
    """Parts of a batch of `count` samples, one for each inner step, in order.

    Each but the last has ceil(count / num_steps): a small batch has fewer parts than steps.
    """
    size = math.ceil(count / num_steps)
    return [slice(start, start + size) for start in range(0, count, size)]
