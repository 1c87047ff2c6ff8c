"""Full-matrix AdaGrad that forgets all its gradients every W steps: the hard window of GGT."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import dtype_name, require_number
from optimizers.common import flat
from optimizers.common.windowed import WindowedOptimizer
from optimizers.ggt import ggt_coefficients
from optimizers.linalg.window import LowRankWindow


class GGTHardWindow(WindowedOptimizer):
    """GGT as its convergence theory has it: restarts of full AdaGrad [Agarwal et al. 2019, sec. 4].

        at a restart, every `window` steps: G <- [], x_0 <- x
        h_t = g_t + proximal (x - x_0)
        G_t = [h_i of all steps i since the restart, h_t included]
        x  <- (1 - lr weight_decay) x - lr [(G_t G_t^T)^{1/2} + damping I]^{-1} h_t

    Our reconstruction: the paper names the hard window and leaves it to an appendix that we could
    not obtain. `proximal` is the weight of proximal |x - x_0|^2 / 2, which such analyses add to a
    smooth function to make it convex between restarts; we restart from the last point, not from an
    average, and without momentum.

    Between restarts this is full-matrix AdaGrad itself, at O(d W + W^3) a step. As in GGT,
    eigenvalues of G^T G below the window's resolution are cut, and nothing outside its span is
    added, where h has no share. A gradient that is not finite, or too large to square, skips the
    step: a fallback. Memory: W d numbers of `window_dtype`, two vectors of length d (three with a
    proximal term) and W^2 float64. Groups cannot be added after the first step.

    Args:
        params: parameters or groups; lr and weight_decay may differ by group, the rest must agree.
        lr: >= 0.
        window: W, steps between restarts; >= 1.
        proximal: weight of the pull to the point of the last restart; >= 0.
        damping: added to the singular values of G; > 0; units of gradient.
        weight_decay: decoupled; >= 0.
        window_dtype: of the stored gradients: float32, float64 or bfloat16, as dtype or name.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-1,
        window: int = 100,
        proximal: float = 0.0,
        damping: float = 1e-4,
        weight_decay: float = 0.0,
        window_dtype: torch.dtype | str = torch.float32,
    ) -> None:
        defaults = {
            "lr": lr,
            "window": window,
            "proximal": proximal,
            "damping": damping,
            "weight_decay": weight_decay,
            "window_dtype": dtype_name(window_dtype, "window_dtype"),
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        require_number(options["proximal"], "proximal")

    def _accumulate(self, momentum_buffer: Tensor, grad: Tensor, options: dict[str, Any]) -> None:
        # Reached only with a gradient that will be pushed: one that is skipped restarts nothing.
        state = self.state["window"]
        restart = state["count"] % len(state["rows"]) == 0
        if restart:
            state["count"] = 0
        if options["proximal"] == 0:
            momentum_buffer.copy_(grad)
            return
        flat.gather_parameters(self.param_groups, momentum_buffer)
        if restart or "restart_point" not in state:
            state["restart_point"] = momentum_buffer.clone()
        # h_t = g_t + proximal (x - x_0)
        momentum_buffer.sub_(state["restart_point"]).mul_(options["proximal"]).add_(grad)

    def _coefficients(
        self, window: LowRankWindow, products: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, float, Tensor]:
        return ggt_coefficients(
            window.gram(),
            products,
            damping=options["damping"],
            outside_scale=0.0,
            sgd_mix=0.0,
            ridge=0.0,
            resolution=window.resolution,
        )
