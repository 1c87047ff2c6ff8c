"""Gradients of parameter groups, what is refused, and whether the statistics can hold them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optimizers.base import DTYPES
from optimizers.telemetry import parameter_names

Groups = Sequence[dict[str, Any]]


def gradients(groups: Groups) -> list[dict[int, Tensor]]:
    """Gradients of each group by position, of the parameters that have one.

    Raises:
        ValueError: naming the parameter, if one is sparse.
    """
    require_dense(groups)
    return [
        {i: p.grad for i, p in enumerate(group["params"]) if p.grad is not None} for group in groups
    ]


def require_dense(groups: Groups) -> None:
    """Raise ValueError, naming the parameter, if a gradient is sparse."""
    for index, parameter in enumerate([p for group in groups for p in group["params"]]):
        grad = parameter.grad
        if grad is not None and grad.layout is not torch.strided:
            name = parameter_names(groups)[index]
            raise ValueError(f"gradient of {name} must be dense, got layout {grad.layout}")


def require_real(groups: Groups) -> None:
    """Raise ValueError, naming the parameter, if one is complex."""
    for index, parameter in enumerate([p for group in groups for p in group["params"]]):
        if parameter.is_complex():
            name = parameter_names(groups)[index]
            raise ValueError(f"dtype of {name} must be real, got {parameter.dtype}")


def gradient_norms(grads: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Frobenius norm of each gradient, 0-d, in the widest of `dtype` and theirs."""
    for grad in grads:
        dtype = torch.promote_types(dtype, grad.dtype)
    return list(torch._foreach_norm(grads, 2, dtype)) if grads else []


def new_bounds(
    groups: Groups, bounds: Sequence[float], norms: Sequence[list[Tensor]]
) -> list[float] | None:
    """Bounds on the traces of each group's factors once these gradients are in.

    The trace of a Gram matrix of a block is the block's squared norm, at most the parameter's; the
    factors are positive semidefinite, so that their trace bounds their entries.
    One host synchronisation.

    Args:
        groups: parameter groups; `beta2` and `statistics_dtype` count.
        bounds: those of the last step.
        norms: of the gradients of each group.
    Returns:
        None if a gradient is not finite or a factor might not be.
    """
    values = iter(torch.stack([norm for found in norms for norm in found]).tolist())
    new = []
    for group, bound, found in zip(groups, bounds, norms, strict=True):
        squares = [x * x for x in itertools.islice(values, len(found))]
        if not all(map(math.isfinite, squares)):
            return None
        if squares:
            beta2, largest = group["beta2"], max(squares)
            bound = beta2 * bound + (1.0 if beta2 == 1 else 1 - beta2) * largest
            # Gram matrices are computed before they are weighted.
            if not max(bound, largest) < torch.finfo(DTYPES[group["statistics_dtype"]]).max:
                return None
        new.append(bound)
    return new
