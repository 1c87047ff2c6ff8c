"""The model as one vector, for optimizers whose matrix couples all parameters of all groups."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from optimizers.common.gradients import Groups, require_dense, require_real

# Options that may differ from group to group when one matrix spans them all.
PER_GROUP = frozenset({"params", "param_names", "lr", "initial_lr", "weight_decay"})


def all_parameters(groups: Groups) -> list[Tensor]:
    """Parameters of all groups, in the order in which the flat vector holds them."""
    return [parameter for group in groups for parameter in group["params"]]


def num_values(groups: Groups) -> int:
    """Length d of the flat vector."""
    return sum(parameter.numel() for parameter in all_parameters(groups))


def flat_dtype(groups: Groups) -> torch.dtype:
    """dtype of the flat vector: the widest among the parameters', float32 at least.

    Raises:
        ValueError: if a parameter is complex, or if they lie on several devices.
    """
    require_real(groups)
    dtype = torch.float32
    parameters = all_parameters(groups)
    for parameter in parameters:
        if parameter.device != parameters[0].device:
            devices = f"{parameters[0].device} and {parameter.device}"
            raise ValueError(f"parameters must be on one device, got {devices}")
        dtype = torch.promote_types(dtype, parameter.dtype)
    return dtype


def shared_options(groups: Groups) -> dict[str, Any]:
    """Options that one matrix over all groups needs the same everywhere.

    Raises:
        ValueError: if two groups disagree on one of them.
    """
    first = groups[0]
    for group in groups[1:]:
        for name, value in first.items():
            if name not in PER_GROUP and group.get(name) != value:
                raise ValueError(
                    f"{name} must be the same in all groups, got {value} and {group.get(name)}"
                )
    return first


def gather_gradients(groups: Groups, out: Tensor) -> bool:
    """Write all gradients into `out`, shape (d,), zeros where there is none.

    Returns:
        False if no parameter has a gradient; `out` is then left as it was.
    Raises:
        ValueError: naming the parameter, if a gradient is sparse.
    """
    require_dense(groups)
    parameters = all_parameters(groups)
    if all(parameter.grad is None for parameter in parameters):
        return False
    start = 0
    for parameter in parameters:
        part = out.narrow(0, start, parameter.numel())
        if parameter.grad is None:
            part.zero_()
        else:
            part.copy_(parameter.grad.reshape(-1))
        start += parameter.numel()
    return True


def gather_parameters(groups: Groups, out: Tensor) -> None:
    """Write all parameters into `out`, shape (d,)."""
    start = 0
    for parameter in all_parameters(groups):
        out.narrow(0, start, parameter.numel()).copy_(parameter.reshape(-1))
        start += parameter.numel()


def apply_update(groups: Groups, update: Tensor) -> None:
    """x <- (1 - lr weight_decay) x - lr u, in place, with each group's own lr and weight_decay.

    Weight decay is decoupled and, as in torch.optim, spares parameters without a gradient.
    """
    start = 0
    for group in groups:
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        for parameter in group["params"]:
            part = update.narrow(0, start, parameter.numel())
            start += parameter.numel()
            if weight_decay != 0 and parameter.grad is not None:
                parameter.mul_(1 - lr * weight_decay)
            parameter.add_(part.view_as(parameter), alpha=-lr)


def apply_updates(groups: Groups, updates: Sequence[Tensor]) -> None:
    """As `apply_update`, from one tensor a parameter, in the order of `all_parameters`, batched.

    Parameters without a gradient stay as they are.
    """
    pairs = iter(zip(all_parameters(groups), updates, strict=True))
    for group in groups:
        own = list(islice(pairs, len(group["params"])))
        active = [pair for pair in own if pair[0].grad is not None]
        if not active:
            continue
        parameters, parts = (list(items) for items in zip(*active, strict=True))
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        if weight_decay != 0:
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        torch._foreach_add_(parameters, parts, alpha=-lr)
