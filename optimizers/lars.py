"""LARS: layer-wise adaptive rates [You et al. 2017], as the baseline of NG+ used it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from optimizers.base import PreconditionedOptimizer, require_common, require_flag, require_number
from optimizers.common.momentum import heavy_ball
from optimizers.common.norms import (
    Active,
    active_parameters,
    at_least_float32,
    buffers,
    finite_norms,
)
from optimizers.telemetry import Spectrum


def trust_ratio(
    weight_norm: float,
    grad_norm: float,
    *,
    trust_coefficient: float,
    weight_decay: float,
    max_trust: float,
    eps: float,
) -> float:
    """Factor of a layer's lr; 1 where |w| or |g| is zero.

    Equation: min(eta |w| / (|g| + weight_decay |w| + eps), max_trust)  [You et al. 2017]
    """
    if weight_norm == 0 or grad_norm == 0:
        return 1.0
    ratio = trust_coefficient * weight_norm / (grad_norm + weight_decay * weight_norm + eps)
    return min(ratio, max_trust)


class LARS(PreconditionedOptimizer):
    """SGD with momentum whose rate is set layer by layer [You et al. 2017; baseline of NG+].

        rho = min(trust_coefficient |w| / (|g| + weight_decay |w| + eps), max_trust)
        v  <- momentum v + clamp(g + weight_decay w, -max_value, max_value)
        w  <- w - lr rho v

    with norms over one tensor. A group with `adapt=False` (biases and norms, by a rule of the YAML)
    has rho = 1. As in the code of that baseline the rate multiplies the sum of past gradients, not
    each as it enters (the paper), and entries and rates are cut; its polynomial warm-up belongs to
    a schedule. Weight decay is not decoupled: the trust ratio is made for the sum with it.

    A step with a gradient that is not finite, or whose norm is not, is skipped: a fallback. One
    host synchronisation a step. No matrix, and so no precision of one. Memory: one number a
    parameter, of its dtype, float32 at least.

    Args:
        params: parameters or groups; all options may differ by group.
        lr: >= 0.
        momentum: in [0, 1).
        weight_decay: >= 0.
        trust_coefficient: eta, in (0, 1].
        max_trust: largest trust ratio; > 0.
        max_value: entries of the decayed gradient are cut there; > 0.
        eps: guards the division; > 0.
        adapt: whether the group has layer-wise rates.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        trust_coefficient: float = 1e-3,
        max_trust: float = 50.0,
        max_value: float = 10.0,
        eps: float = 1e-5,
        adapt: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust_coefficient": trust_coefficient,
            "max_trust": max_trust,
            "max_value": max_value,
            "eps": eps,
            "adapt": adapt,
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        require_number(options["trust_coefficient"], "trust_coefficient", 0, 1, "(]")
        for name in ("max_trust", "max_value", "eps"):
            require_number(options[name], name, ends="()")
        require_flag(options["adapt"], "adapt")

    def spectra(self) -> list[Spectrum]:
        """Nothing: LARS keeps no matrix."""
        return []

    def _update(self) -> None:
        shared = self.state["shared"]
        shared.setdefault("fallbacks", 0)
        work = active_parameters(self.param_groups)
        if not work:
            return
        grads = [grad for active in work for grad in active.gradients]
        weights = [p for active in work if active.group["adapt"] for p in active.parameters]
        norms = finite_norms(grads + weights)
        if norms is None:
            shared["fallbacks"] += 1
            return
        grad_norms, weight_norms = iter(norms[: len(grads)]), iter(norms[len(grads) :])
        for active in work:
            rates = self._rates(active, grad_norms, weight_norms)
            self._descend(active, rates)

    def _rates(
        self, active: Active, grad_norms: Iterator[float], weight_norms: Iterator[float]
    ) -> list[float]:
        """lr times the trust ratio of each parameter; takes the parameters' norms."""
        group, lr = active.group, float(active.group["lr"])
        names = ("trust_coefficient", "weight_decay", "max_trust", "eps")
        options = {name: group[name] for name in names}
        rates = []
        for _ in active.parameters:
            grad_norm = next(grad_norms)
            ratio = trust_ratio(next(weight_norms), grad_norm, **options) if group["adapt"] else 1.0
            rates.append(lr * ratio)
        return rates

    def _descend(self, active: Active, rates: list[float]) -> None:
        group, parameters = active.group, active.parameters
        steps = torch._foreach_add(
            active.gradients, [at_least_float32(p) for p in parameters], alpha=group["weight_decay"]
        )
        torch._foreach_clamp_min_(steps, -group["max_value"])
        torch._foreach_clamp_max_(steps, group["max_value"])
        if group["momentum"]:
            steps = heavy_ball(
                buffers(self.state, "momentum_buffer", parameters), steps, group["momentum"]
            )
        torch._foreach_add_(parameters, torch._foreach_mul(steps, [-rate for rate in rates]))
