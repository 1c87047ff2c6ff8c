"""Square roots and inverse square roots of positive definite matrices by products alone."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.linalg.iteration import deviation, iterate
from optimizers.linalg.norms import frobenius_norm
from optimizers.linalg.powers import Power, identity_like, solve_guarded

# Largest |Z Y - I| with which Z is still taken for an inverse root.
MAX_ERROR = 0.1
# Largest |Y^2 - S|_F / |S|_F with which Y is still taken for a root: small eigenvalues, on which Z
# depends, hardly matter to it.
MAX_RESIDUAL = 1e-3


def power_by_newton_schulz(
    matrix: Tensor,
    exponent: float,
    *,
    damping: float | Tensor = 0.0,
    tolerance: float = 1e-6,
    max_iterations: int = 60,
    retry: bool = True,
    dtype: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
) -> Power:
    """Take the square root, or its inverse, of symmetric positive definite matrices.

    Equation: Y <- Y T, Z <- T Z, T = (3 I - Z Y) / 2, from Y = S / |S|_F, Z = I,
        S = A + damping I; Y -> (S / |S|_F)^(1/2), Z -> its inverse      [Higham 2008, eq. 6.35]
    Stops when the largest |Z Y - I| is below the tolerance or grows by a fifth. An inverse root
    with which it stays above 0.1, or a root whose relative residual exceeds 1e-3, is sought
    again in float64. About 5 + 0.8 log2(condition number) iterations of three products.

    Args:
        matrix: A, shape (..., n, n), real.
        exponent: 1/2 or -1/2.
        damping: multiple of the identity; in the matrix's units, a number or of shape (...); >= 0.
        tolerance: largest |Z Y - I| that ends the iteration.
        max_iterations: for each matrix.
        retry: whether to do in float64 what failed in a narrower dtype.
        dtype: working dtype, float32 or float64; None: the matrix's, float32 if that is narrower.
        out_dtype: dtype of the result; None: the matrix's.
    Returns:
        The root, without eigenvalues.
    Raises:
        ValueError: if the exponent is another.
    """
    if abs(exponent) != 0.5:
        raise ValueError(f"exponent must be 1/2 or -1/2, got {exponent}")

    def advance(Y: Tensor, Z: Tensor, product: Tensor) -> tuple[Tensor, ...]:
        T = 1.5 * identity_like(Y) - 0.5 * product
        Y, Z = Y @ T, T @ Z
        product = Z @ Y
        return Y, Z, product, deviation(product)

    def solve(matrix: Tensor, damping: float | Tensor) -> Power:
        n, shape = matrix.shape[-1], matrix.shape[:-2]
        shift = torch.zeros_like(matrix[..., 0, 0]) + damping
        S = (matrix + shift[..., None, None] * identity_like(matrix)).reshape(-1, n, n)
        norm = frobenius_norm(S)[:, None, None]
        unit = S / norm
        start = unit, identity_like(S).expand_as(S), unit
        (Y, Z, _), error = iterate(
            advance, start, tolerance=tolerance, max_iterations=max_iterations
        )
        if exponent > 0:
            root, failed = Y * norm.sqrt(), frobenius_norm(Y @ Y - unit) > MAX_RESIDUAL
        else:
            root, failed = Z / norm.sqrt(), error > MAX_ERROR
        eigenvalues = S.new_empty(*shape, 0)
        return Power(root.reshape(matrix.shape), eigenvalues, failed.reshape(shape), 0)

    return solve_guarded(solve, matrix, damping, dtype=dtype, out_dtype=out_dtype, retry=retry)
