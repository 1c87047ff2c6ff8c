"""GGT as the code published by its authors computes it (TensorFlow contrib, `GGTOptimizer`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import dtype_name, require_number
from optimizers.common.windowed import WindowedOptimizer
from optimizers.linalg.eigh import eigh
from optimizers.linalg.window import LowRankWindow


def authors_coefficients(
    gram: Tensor,
    products: Tensor,
    *,
    num_empty: int,
    damping: float,
    ridge: float,
    eps_outside: float,
) -> tuple[Tensor, float, Tensor]:
    """Express the authors' step in the window W of n filled columns: out = a m + W c.

    Equation: M = W / sqrt(n),   M^T M + ridge I = U diag(sigma) U^T,
              out = M U diag((sqrt(sigma) + damping)^-3) U^T M^T m
                    + (m - M U diag(1/sigma) U^T M^T m) / sqrt(sigma_min),
              the second line only if sqrt(sigma_min) > eps_outside.
    Departure from the code: eigenvalues of M^T M that round-off makes negative count as zero.

    Args:
        gram: W^T W, shape (n, n), float64, symmetric.
        products: W^T m, shape (n,), float64.
        num_empty: columns still zero; each adds an eigenvalue `ridge` and no direction.
        damping: added to the square roots; >= 0.
        ridge: added to the eigenvalues; > 0.
        eps_outside: threshold for sqrt(sigma_min).
    Returns:
        c, shape (n,), float64; a; the eigenvalues of `gram`, (n,), ascending.
    """
    n = len(gram)
    eigenvalues, U = eigh(gram)
    sigma = eigenvalues.clamp(min=0) / n + ridge
    scales = (sigma.sqrt() + damping) ** -3
    smallest = (ridge if num_empty else float(sigma[0])) ** 0.5
    multiple = 1 / smallest if smallest > eps_outside else 0.0
    # Both factors 1/sqrt(n) of M are taken together.
    c = U @ ((scales - multiple / sigma) * (U.T @ products)) / n
    return c, multiple, eigenvalues


class GGTAuthors(WindowedOptimizer):
    """The `authors` reading of GGT: one window of momentum vectors over the whole model.

        m_t = momentum m_{t-1} + (1 - momentum) g_t
        x  <- (1 - lr weight_decay) x - lr step(m_t)       step: see `authors_coefficients`

    It differs from the paper in the average instead of the sum of gradients, the window divided by
    sqrt(min(t, r)), a cube with damping in place of the inverse root, and the share outside the
    window's span, scaled by the smallest singular value. As ridge > eps_outside^2 with the
    defaults, that share is always taken.

    Memory: with r = `window`, b r d bytes, b = 4, 8 or 2 in float32, float64 or bfloat16, two
    vectors in the parameters' widest dtype, 8 d bytes in float32, and 8 (r^2 + r) bytes of float64
    on the CPU.

    Args:
        params: parameters or groups; lr and weight_decay may differ by group.
        lr: >= 0.
        window: number of vectors kept; >= 1.
        momentum: in [0, 1).
        damping: `sigma_eps` there, added to the singular values; > 0.
        ridge: `svd_eps` there, added to the Gram matrix; > 0.
        eps_outside: `eps` there, threshold for the smallest singular value; >= 0.
        weight_decay: decoupled; >= 0. Not in the authors' code, where it is 0.
        window_dtype: of the stored window: float32, float64 or bfloat16, as dtype or name.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        window: int = 10,
        momentum: float = 0.9,
        damping: float = 1e-2,
        ridge: float = 1e-6,
        eps_outside: float = 1e-4,
        weight_decay: float = 0.0,
        window_dtype: torch.dtype | str = torch.float32,
    ) -> None:
        defaults = {
            "lr": lr,
            "window": window,
            "momentum": momentum,
            "damping": damping,
            "ridge": ridge,
            "eps_outside": eps_outside,
            "weight_decay": weight_decay,
            "window_dtype": dtype_name(window_dtype, "window_dtype"),
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        require_number(options["ridge"], "ridge", ends="()")
        require_number(options["eps_outside"], "eps_outside")

    def _accumulate(self, momentum_buffer: Tensor, grad: Tensor, options: dict[str, Any]) -> None:
        beta1 = options["momentum"]
        momentum_buffer.mul_(beta1).add_(grad, alpha=1 - beta1)

    def _coefficients(
        self, window: LowRankWindow, products: Tensor, options: dict[str, Any]
    ) -> tuple[Tensor, float, Tensor]:
        return authors_coefficients(
            window.gram(),
            products,
            num_empty=options["window"] - window.num_filled,
            damping=options["damping"],
            ridge=options["ridge"],
            eps_outside=options["eps_outside"],
        )
