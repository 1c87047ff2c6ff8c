"""Gradients of a parameter group, and whether the statistics can hold them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from optimizers.base import DTYPES


def gradients(group: dict[str, Any]) -> dict[int, Tensor]:
    """Gradients of a group by position, of the parameters that have one.

    Raises:
        ValueError: if one is sparse.
    """
    found = {}
    for position, parameter in enumerate(group["params"]):
        grad = parameter.grad
        if grad is not None:
            if grad.layout is not torch.strided:
                raise ValueError(f"gradients must be dense, got layout {grad.layout}")
            found[position] = grad
    return found


def gradient_norms(grads: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Frobenius norm of each gradient, 0-d, in the widest of `dtype` and theirs."""
    for grad in grads:
        dtype = torch.promote_types(dtype, grad.dtype)
    return list(torch._foreach_norm(grads, 2, dtype)) if grads else []


def new_bounds(
    groups: Sequence[dict[str, Any]], bounds: Sequence[float], norms: Sequence[list[Tensor]]
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
