"""Sketches by uniform row sampling: Omega has q rows sqrt(m / q) e_i^T, i drawn with replacement.

E[Omega^T Omega] = I    [Yang et al. 2021, eq. 17; there as columns of an n x q matrix]
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from optimizers.linalg.inverse import Inverse, damped_inverse


def draw_rows(num_rows: int, size: int, *counters: int) -> Tensor:
    """Draw `size` of `num_rows` numbers, uniformly and with replacement; int64, on the CPU.

    A function of the counters alone (a seed, a step, a layer), so that nothing needs restoring.
    """
    # Multiplied by a large odd number, so that neighbouring counters have unrelated streams.
    value = 0
    for counter in counters:
        value = (value * 0x9E3779B97F4A7C15 + counter + 1) % 2**63
    generator = torch.Generator().manual_seed(value)
    return torch.randint(num_rows, (size,), generator=generator)


def sketch_scale(num_rows: int, size: int) -> float:
    """sqrt(m / q), the factor of each row of Omega."""
    return math.sqrt(num_rows / size)


def sketch(matrix: Tensor, rows: Tensor) -> Tensor:
    """Omega M: rows (..., q) of the matrices (..., m, n), scaled, shape (..., q, n)."""
    index = rows.unsqueeze(-1).expand(*rows.shape, matrix.shape[-1])
    return matrix.gather(-2, index) * sketch_scale(matrix.shape[-2], rows.shape[-1])


def sketched_core(U: Tensor, rows: Tensor, damping: float) -> Inverse:
    """(damping I + (Omega U)^T Omega U)^-1, shape (..., b, b), of U (..., m, b)."""
    sketched = sketch(U, rows)
    return damped_inverse(sketched.mT @ sketched, damping)


def sketched_product(U: Tensor, core: Tensor, G: Tensor, rows: Tensor, damping: float) -> Tensor:
    """(G - U Y) / damping with Y = argmin |Omega U Y - Omega G|^2 + damping |Y|^2.

    [Yang et al. 2021, eq. 16; the direction is not Y itself, as is printed there]
    Y needs q rows of U and G instead of all m.
    """
    Y = core @ (sketch(U, rows).mT @ sketch(G, rows))
    return (G - U @ Y) / damping
