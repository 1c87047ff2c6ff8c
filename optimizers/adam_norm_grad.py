"""AdamNormGrad: Adam on gradients of norm one, KrADagrad's baseline [Mei et al. 2023, fig. 5]."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from optimizers.base import (
    PreconditionedOptimizer,
    is_number,
    require,
    require_common,
    require_number,
)
from optimizers.common.norms import Active, active_parameters, buffers, finite_norms
from optimizers.telemetry import Spectrum


class AdamNormGrad(PreconditionedOptimizer):
    """Adam on each tensor's gradient divided by its norm.

        h = g / (|g| + norm_eps)                                    norm over one tensor
        m <- beta1 m + (1 - beta1) h,   s <- beta2 s + (1 - beta2) h^2
        x <- (1 - lr weight_decay) x
             - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(s) + eps)

    As in the released code of the baseline eps stands beside the root before its bias is corrected.
    Departure from that code: weight decay is decoupled (there it joins h; the runs used none).
    A step with a gradient that is not finite is skipped: a fallback. One host synchronisation a
    step. No matrix, and so no precision of one. Memory: two numbers a parameter, of its dtype,
    float32 at least.

    Args:
        params: parameters or groups; all options may differ by group.
        lr: >= 0.
        betas: decay of m and s, each in [0, 1).
        eps: guards the division by sqrt(s); > 0.
        norm_eps: guards the division by the norm; > 0.
        weight_decay: decoupled; >= 0.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        norm_eps: float = 1e-7,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas) if isinstance(betas, Sequence) else betas,
            "eps": eps,
            "norm_eps": norm_eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        betas = options["betas"]
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        good = pair and all(is_number(beta, 0, 1) for beta in betas)
        require(good, "betas", "two numbers in [0, 1)", betas)
        for name in ("eps", "norm_eps"):
            require_number(options[name], name, ends="()")

    def spectra(self) -> list[Spectrum]:
        """Nothing: it keeps no matrix."""
        return []

    def _update(self) -> None:
        shared = self.state["shared"]
        shared.setdefault("fallbacks", 0)
        work = active_parameters(self.param_groups)
        if not work:
            return
        norms = finite_norms([grad for active in work for grad in active.gradients])
        if norms is None:
            shared["fallbacks"] += 1
            return
        for active in work:
            count = len(active.gradients)
            self._descend(active, norms[:count])
            norms = norms[count:]

    def _descend(self, active: Active, norms: list[float]) -> None:
        group, parameters = active.group, active.parameters
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        h = torch._foreach_div(active.gradients, [norm + group["norm_eps"] for norm in norms])
        m, s = (buffers(self.state, name, parameters) for name in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(m, h, 1 - beta1)
        torch._foreach_mul_(s, beta2)
        torch._foreach_addcmul_(s, h, h, value=1 - beta2)
        scales = []
        for parameter in parameters:
            # Its own count: a parameter may have been without a gradient.
            state = self.state[parameter]
            t = state["step"] = state.get("step", 0) + 1
            scales.append(-lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t))
        roots = torch._foreach_sqrt(s)
        torch._foreach_add_(roots, group["eps"])
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - lr * group["weight_decay"])
        steps = torch._foreach_div(m, roots)
        torch._foreach_mul_(steps, scales)
        torch._foreach_add_(parameters, steps)
