"""Steepest descent with exact line search, for small problems [Lu et al. 2018, section 2]."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import require_common, require_count, require_number
from optimizers.common.closures import Closure, ClosureOptimizer, loss_with_graph
from optimizers.common.norms import active_parameters, finite_norms
from optimizers.telemetry import Spectrum


def line_minimum(
    evaluate: Callable[[float], tuple[float, float]],
    value: float,
    slope: float,
    trial: float,
    *,
    tolerance: float,
    max_evaluations: int,
    eps: float,
) -> float:
    """Step to a minimum of a function phi of one variable that decreases from 0 on.

    The step is doubled until phi rises, or lies above its start, and the bracket that results is
    narrowed by regula falsi on phi', where an end that stays twice counts with half its slope
    (Illinois rule): a quadratic phi is solved by the first interpolation. While the slopes do not
    enclose a zero the bracket is halved, or cut to a tenth where it begins at 0. Its low end never
    lies above the start and always descends: it contains a local minimum not above the start.

    Args:
        evaluate: step -> phi, phi'.
        value: phi(0); finite.
        slope: phi'(0); < 0.
        trial: first step; > 0.
        tolerance: the search ends where |phi'| is at most this share of |phi'(0)|.
        max_evaluations: it ends there with the low end of the bracket; >= 1.
        eps: relative round-off of phi.
    Returns:
        The step; 0 if none was found that is not above the start.
    """
    low, low_slope, high, high_slope = 0.0, slope, math.inf, math.nan
    step, was_low = trial, None
    ceiling = value + 4 * eps * abs(value)
    for _ in range(max_evaluations):
        phi, derivative = evaluate(step)
        if phi <= ceiling and abs(derivative) <= tolerance * abs(slope):
            return step
        is_low = phi <= ceiling and derivative < 0
        if is_low:
            low, low_slope = step, derivative
            high_slope *= 0.5 if was_low is True else 1.0
        else:
            encloses = math.isfinite(phi) and derivative > 0
            high, high_slope = step, derivative if encloses else math.nan
            low_slope *= 0.5 if was_low is False else 1.0
        was_low = is_low
        if high == math.inf:
            step = 2 * low
        elif math.isfinite(high_slope):
            step = low + (high - low) * low_slope / (low_slope - high_slope)
        else:
            step = (low + high) / 2 if low > 0 else high / 10
        if not low < step < high:
            break
    return low


class ExactLineSearchGD(ClosureOptimizer):
    """x <- x - lr a g with a = argmin f(x - a g) [Lu et al. 2018, section 2 and figure 1].

    The gradient g runs over all groups. `line_minimum` finds a to the accuracy of `tolerance` from
    values and slopes of f, a forward and a backward pass each; two suffice where f is quadratic
    along g. The first step it tries has length 1, later ones the length found last. lr multiplies
    what was found: 1 is the exact search. A step where the loss or gradient is not finite, or where
    nothing descends, is skipped: a fallback.

    State: the last step and counts, no tensors; a step copies the parameters once.

    Args:
        params: parameters or groups; lr may differ by group.
        lr: >= 0.
        tolerance: share of the first slope at which the search ends; in (0, 1).
        max_evaluations: of the loss in one search; an integer >= 1.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        tolerance: float = 1e-6,
        max_evaluations: int = 50,
    ) -> None:
        defaults = {"lr": lr, "tolerance": tolerance, "max_evaluations": max_evaluations}
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        require_number(options["tolerance"], "tolerance", 0, 1, "()")
        require_count(options["max_evaluations"], "max_evaluations")

    def spectra(self) -> list[Spectrum]:
        """Nothing: it keeps no matrix."""
        return []

    def _search(self, closure: Closure, loss: Tensor) -> bool:
        work = active_parameters(self.param_groups)
        if not work:
            return True
        parameters = [p for active in work for p in active.parameters]
        grads = [grad for active in work for grad in active.gradients]
        norms = finite_norms(grads)
        if norms is None:
            return False
        squared = math.fsum(norm * norm for norm in norms)
        if squared == 0:
            return True
        start = [parameter.detach().clone() for parameter in parameters]
        shared, options = self.state["shared"], self.param_groups[0]

        def evaluate(step: float) -> tuple[float, float]:
            _move(parameters, start, grads, [step] * len(grads))
            return _value_and_slope(closure, parameters, grads)

        step = 0.0
        try:
            step = line_minimum(
                evaluate,
                float(loss),
                -squared,
                shared.get("step_size", squared**-0.5),
                tolerance=options["tolerance"],
                max_evaluations=options["max_evaluations"],
                eps=torch.finfo(loss.dtype).eps,
            )
        finally:
            steps = [float(a.group["lr"]) * step for a in work for _ in a.parameters]
            _move(parameters, start, grads, steps)
        if step > 0:
            shared["step_size"] = step
        return step > 0


def _move(
    parameters: list[Tensor], start: list[Tensor], grads: list[Tensor], steps: list[float]
) -> None:
    """x = x_0 - a g, in place; exactly x_0 where a = 0."""
    for parameter, origin, grad, step in zip(parameters, start, grads, steps, strict=True):
        parameter.copy_(origin if step == 0 else origin - step * grad)


def _value_and_slope(
    closure: Closure, parameters: list[Tensor], direction: list[Tensor]
) -> tuple[float, float]:
    """The loss here and its derivative along minus the direction. One host synchronisation."""
    loss = loss_with_graph(closure)
    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = [(g, d) for g, d in zip(grads, direction, strict=True) if g is not None]
    products = [(g.double() * d.double()).sum() for g, d in pairs]
    value, *slopes = torch.stack([loss.detach().double().reshape(()), *products]).tolist()
    return value, -math.fsum(slopes)
