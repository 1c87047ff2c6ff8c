"""Minimisation within a ball."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Halvings of an interval of multipliers: the norm is met to the last digits of float64.
NUM_HALVINGS = 100


def in_ball(solve: Callable[[float], Tensor], radius: float, scale: float) -> Tensor:
    """Minimise within a ball, given the minimisers with |w|^2 / 2 times a multiplier added.

    Args:
        solve: multiplier >= 0 -> minimiser; its norm falls with the multiplier. Without one it
            may raise ArithmeticError or torch.linalg.LinAlgError: there is no minimiser.
        radius: of the ball.
        scale: a multiplier to begin with.
    """
    try:
        free = solve(0.0)
        if free.norm() <= radius:
            return free
    except (ArithmeticError, torch.linalg.LinAlgError):
        pass  # the sum of losses has its infimum at infinity: the ball binds
    high = scale
    while solve(high).norm() > radius:
        high *= 10
    low = 0.0
    for _ in range(NUM_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if solve(middle).norm() > radius else (low, middle)
    return solve(high)
