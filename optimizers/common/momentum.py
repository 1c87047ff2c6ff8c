"""Momentum rules on lists of tensors: each renews the buffers m in place and returns the steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[list[Tensor], list[Tensor], float], list[Tensor]]


def heavy_ball(buffers: list[Tensor], updates: list[Tensor], momentum: float) -> list[Tensor]:
    """m <- mu m + u, step m."""
    torch._foreach_mul_(buffers, momentum)
    torch._foreach_add_(buffers, updates)
    return buffers


def nesterov(buffers: list[Tensor], updates: list[Tensor], momentum: float) -> list[Tensor]:
    """m <- mu m + u, step u + mu m. `updates` are overwritten by the steps."""
    heavy_ball(buffers, updates, momentum)
    torch._foreach_add_(updates, buffers, alpha=momentum)
    return updates


def in_place_nesterov(
    buffers: list[Tensor], updates: list[Tensor], momentum: float
) -> list[Tensor]:
    """m <- mu (mu m + u) + u, step m: the look-ahead stays in the buffer.

    What the code of KrADagrad's authors does: the effective decay is mu^2 and the gain 1 + mu.
    """
    torch._foreach_mul_(buffers, momentum * momentum)
    torch._foreach_add_(buffers, updates, alpha=1 + momentum)
    return buffers


def aliased_start(buffers: list[Tensor], updates: list[Tensor], momentum: float) -> list[Tensor]:
    """m <- mu m + u, step 2 mu u. `updates` are overwritten by the steps.

    The same code before its start step: the graft's momentum and the gradient are one tensor there,
    so that in-place Nesterov doubles it and the buffer only gathers.
    """
    heavy_ball(buffers, updates, momentum)
    torch._foreach_mul_(updates, 2 * momentum)
    return updates


MOMENTUM_RULES: dict[str, Rule] = {
    "heavy_ball": heavy_ball,
    "nesterov": nesterov,
    "in_place_nesterov": in_place_nesterov,
}
# Rules for the steps before start_step; None: the same as after it.
START_RULES: dict[str, Rule | None] = {"same": None, "aliased": aliased_start}
