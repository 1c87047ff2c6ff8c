"""Products with the inverse of damping I + U U^T, U tall, in the size of U's short side."""

from __future__ import annotations

from torch import Tensor

from optimizers.linalg.inverse import Inverse, damped_inverse


def woodbury_core(U: Tensor, damping: float) -> Inverse:
    """(damping I + U^T U)^-1, shape (..., b, b), of U (..., m, b); damping > 0."""
    return damped_inverse(U.mT @ U, damping)


def woodbury_product(U: Tensor, core: Tensor, G: Tensor, damping: float) -> Tensor:
    """(damping I + U U^T)^-1 G = (G - U (damping I + U^T U)^-1 U^T G) / damping.

    [Yang et al. 2021, eq. 14, with the factor 1 / damping that is missing there]
    The b unknowns in the brackets solve min_Y |U Y - G|^2 + damping |Y|^2 (eq. 15).

    Args:
        U: shape (..., m, b).
        core: what `woodbury_core` gave, shape (..., b, b).
        G: shape (..., m, n).
        damping: that of the core; > 0.
    Returns:
        Shape (..., m, n). O(m b n).
    """
    return (G - U @ (core @ (U.mT @ G))) / damping
