"""Projections onto balls, in the norm of a positive definite matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.linalg.eigh import eigh

# Halvings of the interval of mu: 2^-60 of it is below float64's round-off.
NUM_BISECTIONS = 60


def project_to_ball(point: Tensor, matrix: Tensor, radius: float) -> Tensor:
    """argmin_X tr((X - Y)^T L (X - Y)) over |X|_F <= radius, for one Y and one L.

    Equation: X = (L + mu I)^-1 L Y, mu >= 0 the least with |X|_F <= radius.
    In float64; O(m^3) where Y lies outside, and nothing inside.

    Args:
        point: Y, shape (m, n).
        matrix: L, shape (m, m), symmetric positive definite.
        radius: > 0.
    Returns:
        X, shape (m, n), dtype of Y.
    """
    if float(torch.linalg.matrix_norm(point)) <= radius:
        return point
    values, vectors = eigh(matrix.double())
    values = values.clamp(min=torch.finfo(torch.float64).tiny)
    rotated = vectors.mT @ point.double()
    weights = rotated.square().sum(1)
    # |X|^2 falls from |Y|^2 at mu = 0 to below radius^2 at max(values) |Y| / radius.
    high = values[-1] * weights.sum().sqrt() / radius
    low = torch.zeros_like(high)
    for _ in range(NUM_BISECTIONS):
        mu = 0.5 * (low + high)
        outside = ((values / (values + mu)).square() * weights).sum() > radius**2
        low, high = torch.where(outside, mu, low), torch.where(outside, high, mu)
    return (vectors @ ((values / (values + high))[:, None] * rotated)).to(point.dtype)
