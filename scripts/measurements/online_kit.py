"""What the measurements of online and stochastic convex problems share: many problems at once.

One optimizer has the points of many problems of one shape as its parameters, each a problem of its
own, since the methods treat parameters apart; that costs little more than one problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
# (step from 0, points (problems, ...)) -> losses (problems,), gradients (problems, ...)
Oracle = Callable[[int, Tensor], tuple[Tensor, Tensor]]


class Played:
    """What was played: `losses` (steps, problems), and what was asked for on the way.

    Attributes:
        losses: of each step, at the points before it, float64.
        squares: sums over the steps of the squared norms of gradients, shape (steps, problems).
        points: the points before each step (steps, problems, ...), float32; None if not kept.
        noted: step -> what `note` returned after it.
    """

    def __init__(self, steps: int, start: Tensor, keep_points: bool) -> None:
        self.losses = torch.empty(steps, len(start), dtype=torch.float64)
        self.squares = torch.empty(steps, len(start), dtype=torch.float64)
        self.points = torch.empty(steps, *start.shape) if keep_points else None
        self.noted: dict[int, object] = {}


def play(
    oracle: Oracle,
    make: Make,
    start: Tensor,
    steps: int,
    *,
    keep_points: bool = False,
    at: Iterable[int] = (),
    note: Callable[[torch.optim.Optimizer, Tensor], object] | None = None,
    power: float = 0.0,
) -> Played:
    """Let an optimizer meet `steps` losses of each problem.

    Args:
        oracle: gives losses and gradients.
        make: builds the optimizer over a list of parameters, one a problem.
        start: points at the start, shape (problems, ...), float64; not modified.
        steps: of the optimizer.
        keep_points: whether the way is kept.
        at: steps, counted from 1, after which `note(optimizer, points)` is called.
        power: rates are multiplied by t^-power at step t = 1, 2, ...
    """
    points = start.clone()
    parameters = [nn.Parameter(point) for point in points]
    optimizer = make(parameters)
    rates = [group["lr"] for group in optimizer.param_groups]
    played, at = Played(steps, start, keep_points), frozenset(at)
    for t in range(steps):
        with torch.no_grad():
            losses, grads = oracle(t, points)
            played.losses[t] = losses
            played.squares[t] = grads.flatten(1).square().sum(1)
            if played.points is not None:
                played.points[t] = points
        for parameter, grad in zip(parameters, grads.unbind(), strict=True):
            parameter.grad = grad
        if power:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (t + 1) ** -power
        optimizer.step()
        if t + 1 in at:
            played.noted[t + 1] = note(optimizer, points)
    played.squares.cumsum_(0)
    return played


def tuned(score: Callable[[float], Sequence[float]], rates: Sequence[float]) -> float:
    """The rate of least mean score; what is not finite is never chosen.

    Args:
        score: rate -> a number for each tuning problem, lower is better.
    Raises:
        ValueError: if no rate has a finite score.
    """
    means = {rate: math.fsum(values) / len(values) for rate in rates if (values := score(rate))}
    finite = {rate: mean for rate, mean in means.items() if math.isfinite(mean)}
    if not finite:
        raise ValueError(f"no rate of {list(rates)} has a finite score")
    return min(finite, key=finite.__getitem__)
