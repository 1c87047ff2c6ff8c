"""GGT: full-matrix adaptive regularisation from a window of gradients [Agarwal et al. 2019]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import dtype_name, require_choice, require_number
from optimizers.common.windowed import WindowedOptimizer
from optimizers.linalg.eigh import eigh
from optimizers.linalg.window import LowRankWindow


def ggt_coefficients(
    gram: Tensor,
    products: Tensor,
    *,
    damping: float,
    outside_scale: float,
    sgd_mix: float,
    ridge: float,
    resolution: float,
) -> tuple[Tensor, float, Tensor]:
    """Express the preconditioned vector in the window: out = a v + G c.

    Equation: [(G G^T)^{1/2} + eps I]^{-1} v
              = v/eps + U [(S + eps I)^{-1} - I/eps] U^T v,   U = G V S^{-1},   G^T G = V S^2 V^T
              [Agarwal et al. 2019, section 2.1]
    Departure from the paper: 1/eps outside the span of G is a number of its own, `outside_scale`;
    `sgd_mix` times v is added (section 2.2, interpolation with SGD); S^-1 is a pseudo-inverse.

    Args:
        gram: G^T G, shape (n, n), float64, symmetric; units of squared gradient.
        products: G^T v, shape (n,), float64.
        damping: eps, added to the singular values of G; > 0.
        outside_scale: factor of the part of v outside the span of G.
        sgd_mix: multiple of v that is added.
        ridge: added to the diagonal of G^T G.
        resolution: share of the largest eigenvalue below which eigenvalues are cut.
    Returns:
        c, shape (n,), float64; a; the eigenvalues of `gram` without ridge, (n,), ascending.
    Raises:
        torch.linalg.LinAlgError: if the eigendecomposition does not converge.
    """
    eigenvalues, V = eigh(gram)
    squared = eigenvalues + ridge
    kept = squared > max(resolution * float(squared[-1]), 0.0)
    squared, V = squared[kept], V[:, kept]
    s = squared.sqrt()
    # c = V [(S + eps I)^{-1} - outside_scale I] S^{-2} V^T G^T v
    c = V @ ((1 / (s + damping) - outside_scale) / squared * (V.T @ products))
    return c, outside_scale + sgd_mix, eigenvalues


class GGT(WindowedOptimizer):
    """GGT with one window over all parameters of all groups [Agarwal et al. 2019, Algorithm 1].

        v_t = momentum v_{t-1} + g_t                      no factor 1 - momentum
        G_t = [beta2^0 w_t, beta2^1 w_{t-1}, ...]         w = v or g, see `window_source`
        x  <- (1 - lr weight_decay) x - lr [(G_t G_t^T)^{1/2} + damping I]^{-1} v_t

    A step whose vector is in the window has norm at most lr over the whole model, so that learning
    rates are about sqrt(d) times Adam's. A step reads the window twice and costs O(d r + r^3).

    Departure from the paper: with the default `outside_scale=0` the part outside the window's span
    is dropped; where v is itself in the window it is round-off, which 1/damping would blow up.
    A gradient that is not finite, or too large to square, skips the step: a fallback.

    Memory: b r d bytes of window, b = 4, 8 or 2 in float32, float64 or bfloat16, two vectors in the
    parameters' widest dtype, 8 d bytes in float32, and 8 (r^2 + r) bytes of float64 on the CPU.

    No dtype of roots or application: but for the window and the two vectors all is float64, r x r,
    and costs next to nothing. The root is never formed, only applied to one vector.

    Args:
        params: parameters or groups; lr and weight_decay may differ by group.
        lr: >= 0.
        window: r, number of vectors kept; >= 1.
        momentum: beta1, in [0, 1).
        beta2: attenuation of a column a step of age, in (0, 1]; second moments decay as beta2^2.
        damping: the paper's epsilon, added to the singular values of G; > 0; units of gradient.
        weight_decay: decoupled; >= 0.
        window_source: what enters it, "momentum" (section 2.2) or "gradient" (Algorithm 1).
        outside_scale: factor outside the window's span, >= 0; None for the printed 1/damping. It
            acts only with window_source="gradient" and momentum: else v lies in the span.
        sgd_mix: multiple of v that is added; >= 0.
        ridge: added to the diagonal of G^T G (section 2.2 suggests 1e-6); >= 0.
        window_dtype: of the stored window: float32, float64 or bfloat16, as dtype or name.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        window: int = 100,
        momentum: float = 0.9,
        beta2: float = 1.0,
        damping: float = 1e-4,
        weight_decay: float = 0.0,
        window_source: str = "momentum",
        outside_scale: float | None = 0.0,
        sgd_mix: float = 0.0,
        ridge: float = 0.0,
        window_dtype: torch.dtype | str = torch.float32,
    ) -> None:
        defaults = {
            "lr": lr,
            "window": window,
            "momentum": momentum,
            "beta2": beta2,
            "damping": damping,
            "weight_decay": weight_decay,
            "window_source": window_source,
            "outside_scale": outside_scale,
            "sgd_mix": sgd_mix,
            "ridge": ridge,
            "window_dtype": dtype_name(window_dtype, "window_dtype"),
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        require_choice(options["window_source"], "window_source", ("momentum", "gradient"))
        require_number(options["outside_scale"], "outside_scale", optional=True)
        for name in ("sgd_mix", "ridge"):
            require_number(options[name], name)

    def _accumulate(self, momentum_buffer: Tensor, grad: Tensor, options: dict[str, Any]) -> None:
        # v_t = momentum v_{t-1} + g_t, in one pass
        torch.add(grad, momentum_buffer, alpha=options["momentum"], out=momentum_buffer)

    def _coefficients(
        self, window: LowRankWindow, products: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, float, Tensor]:
        # The buffer keeps undecayed columns: with D = diag(beta2^age) the attenuated window is G D.
        decay = options["beta2"] ** window.ages().double()
        outside = options["outside_scale"]
        c, multiple, eigenvalues = ggt_coefficients(
            decay[:, None] * window.gram() * decay,
            decay * products,
            damping=options["damping"],
            outside_scale=1 / options["damping"] if outside is None else outside,
            sgd_mix=options["sgd_mix"],
            ridge=options["ridge"],
            resolution=window.resolution,
        )
        return decay * c, multiple, eigenvalues
