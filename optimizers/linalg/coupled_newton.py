"""Roots and inverse roots of positive definite matrices by the coupled Newton iteration."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.linalg.iteration import deviation, iterate
from optimizers.linalg.norms import frobenius_norm, spectral_norm
from optimizers.linalg.powers import Power, identity_like, solve_guarded

# Iterations for the largest eigenvalue, which only scales the ridge.
NUM_POWER_ITERATIONS = 30
# Largest |M - I| with which a root is still taken for one.
MAX_ERROR = 0.1


def power_by_coupled_newton(
    matrix: Tensor,
    exponent: float,
    *,
    damping: float | Tensor = 0.0,
    ridge: float = 0.0,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
    max_error: float = MAX_ERROR,
    retry: bool = True,
    dtype: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
) -> Power:
    """Take p-th roots, or their inverses, of symmetric positive definite matrices by products.

    Equation: X <- X T, M <- T^p M, T = (1 + 1/p) I - M / p, from X = z^(1/p) I, M = z S,
        z = (1 + p) / (2 |S|_F), S = A + (damping + ridge lambda_max(A)) I; X -> S^(-1/p), M -> I
        [Guo and Higham 2006; Anil et al. 2020]. For a positive exponent X^(p-1) S, by way of the
        inverse root.
    Stops when the largest |M - I| is below the tolerance or grows by a fifth. That M is near I does
    not show the error of X, which in float32 is 1e-3 of X at a condition number of 1e6 and 0.6 at
    1e10: see `residual`. A root whose |M - I| stays above `max_error` is sought again in float64.
    About 4 + 0.75 log2(condition number) iterations of 2 + log2(p) products: on a CPU several times
    the cost of `power_by_eigh`.

    Args:
        matrix: A, shape (..., n, n), real.
        exponent: 1/p or -1/p with an integer p >= 1.
        damping: multiple of the identity; in the matrix's units, a number or of shape (...); >= 0.
        ridge: the same as a share of the largest eigenvalue; >= 0.
        tolerance: largest |M - I| that ends the iteration.
        max_iterations: for each matrix.
        max_error: largest |M - I| of a root that has not failed; infinite: take it as it comes.
        retry: whether to do in float64 what failed in a narrower dtype.
        dtype: working dtype, float32 or float64; None: the matrix's, float32 if that is narrower.
        out_dtype: dtype of the result; None: the matrix's.
    Returns:
        The root, without eigenvalues.
    Raises:
        ValueError: if the exponent is no such fraction.
    """
    degree = _degree(exponent)

    def solve(matrix: Tensor, damping: float | Tensor) -> Power:
        n, shape = matrix.shape[-1], matrix.shape[:-2]
        S = _shifted(matrix, damping, ridge).reshape(-1, n, n)
        X, error = _inverse_root(S, degree, tolerance, max_iterations)
        if exponent > 0:
            X = torch.linalg.matrix_power(X, degree - 1) @ S
        eigenvalues = S.new_empty(*shape, 0)
        return Power(X.reshape(matrix.shape), eigenvalues, (error > max_error).reshape(shape), 0)

    return solve_guarded(solve, matrix, damping, dtype=dtype, out_dtype=out_dtype, retry=retry)


def _inverse_root(
    S: Tensor, degree: int, tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    """S^(-1/p) of (b, n, n) and the largest |M - I|, (b,)."""
    eye = identity_like(S)
    z = ((1 + degree) / 2 / frobenius_norm(S))[:, None, None]

    def advance(X: Tensor, M: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        T = (1 + 1 / degree) * eye - M / degree
        M = torch.linalg.matrix_power(T, degree) @ M
        return X @ T, M, deviation(M)

    start = z ** (1 / degree) * eye, z * S
    (X, _), error = iterate(advance, start, tolerance=tolerance, max_iterations=max_iterations)
    return X, error


def _shifted(matrix: Tensor, damping: float | Tensor, ridge: float) -> Tensor:
    shift = torch.zeros_like(matrix[..., 0, 0]) + damping
    if ridge:
        shift = shift + ridge * spectral_norm(matrix, NUM_POWER_ITERATIONS)
    return matrix + shift[..., None, None] * identity_like(matrix)


def _degree(exponent: float) -> int:
    degree = round(1 / abs(exponent)) if exponent else 0
    if degree < 1 or abs(degree * abs(exponent) - 1) > 1e-9:
        raise ValueError(f"exponent must be 1/p or -1/p with an integer p, got {exponent}")
    return degree
