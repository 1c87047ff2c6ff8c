"""Parameters with a gradient, and norms of many tensors at one host synchronisation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optimizers.common.gradients import Groups, gradients, require_real


@dataclass(frozen=True)
class Active:
    """Parameters of a group that have a gradient, and these gradients, in float32 at least."""

    group: dict[str, Any]
    parameters: list[Tensor]
    gradients: list[Tensor]


def active_parameters(groups: Groups) -> list[Active]:
    """Those of each group that has any.

    Raises:
        ValueError: naming the parameter, if it is complex or its gradient sparse.
    """
    require_real(groups)
    found = []
    for group, grads in zip(groups, gradients(groups), strict=True):
        parameters = [group["params"][position] for position in grads]
        if parameters:
            found.append(Active(group, parameters, list(map(at_least_float32, grads.values()))))
    return found


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor itself, or a float32 copy of one of half precision."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def finite_norms(tensors: list[Tensor]) -> list[float] | None:
    """Euclidean norm of each, summed in float64; None if one is not finite.

    One host synchronisation.
    """
    norms = torch.stack(torch._foreach_norm(tensors, 2, torch.float64)).tolist()
    return norms if all(map(math.isfinite, norms)) else None


def buffers(states: dict[Any, Any], name: str, parameters: list[Tensor]) -> list[Tensor]:
    """State tensors of the parameters, made as zeros of float32 at least where there are none."""
    for parameter in parameters:
        if name not in states[parameter]:
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            states[parameter][name] = torch.zeros_like(parameter, dtype=dtype)
    return [states[parameter][name] for parameter in parameters]
