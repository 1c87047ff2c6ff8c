"""Norms of symmetric matrices and of their products, without a decomposition."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def trace(matrix: Tensor) -> Tensor:
    """Trace of (..., n, n), shape (...), dtype of `matrix`."""
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def frobenius_norm(matrix: Tensor) -> Tensor:
    """Frobenius norm of (..., m, n), shape (...); squares of the entries may under- or overflow."""
    return _scaled_norm(matrix.flatten(-2))


def spectral_norm(matrix: Tensor, num_iterations: int = 10) -> Tensor:
    """Largest eigenvalue of symmetric positive semidefinite (..., n, n), shape (...), from below.

    See `spectral_norm_of`; each iteration reads the matrix once.
    """
    return spectral_norm_of(lambda v: matrix @ v, _start(matrix), num_iterations)


def product_spectral_norm(A: Tensor, L: Tensor, num_iterations: int = 10) -> Tensor:
    """Largest singular value of A L for symmetric (..., n, n) A and L, shape (...), from below.

    See `spectral_norm_of`; the iteration is that of (A L)^T (A L) and reads each matrix twice.
    """
    return spectral_norm_of(
        lambda v: A @ (L @ v), _start(L), num_iterations, transposed=lambda w: L @ (A @ w)
    )


def spectral_norm_of(
    product: Callable[[Tensor], Tensor],
    start: Tensor,
    num_iterations: int,
    *,
    transposed: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Largest singular value of a linear map by power iteration, shape (...), from below.

    Equation: v <- M^T M v / |M^T M v|, sigma = |M v| / |v|; v <- M v / |M v| for symmetric M.
    Departure from an exact norm: a fixed number of iterations, without a test of convergence or a
    host synchronisation. With k iterations the result is at least (cos angle)^(1 / (k + 1)) of the
    norm of a positive semidefinite M, the angle being that of `start` to the leading eigenspace.
    Vectors are scaled by their largest entry, so that their squares stay in range. 0 for M = 0.

    Args:
        product: v -> M v on (..., n, 1).
        start: shape (..., n, 1), not orthogonal to the leading singular vector.
        num_iterations: >= 0.
        transposed: w -> M^T w; None: M is symmetric positive semidefinite.
    """
    v = start
    for _ in range(num_iterations):
        v = _scaled(product(v))
        if transposed is not None:
            v = _scaled(transposed(v))
    tiny = torch.finfo(v.dtype).tiny
    return _scaled_norm(product(v).squeeze(-1)) / _scaled_norm(v.squeeze(-1)).clamp(min=tiny)


def starting_vector(n: int, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """A fixed vector (n, 1) without structure, entries in (-1/2, 1/2), to start power iterations.

    Equation: v_k = (40503 k^2 mod 65537) / 65537 - 1/2, k = 1...n
    Integers, so that it is the same on every device; needs no generator and no copy to the device.
    """
    k = torch.arange(1, n + 1, device=device)
    return ((k * k * 40_503 % 65_537).to(dtype) / 65_537 - 0.5).unsqueeze(-1)


def _start(matrix: Tensor) -> Tensor:
    n = matrix.shape[-1]
    start = starting_vector(n, dtype=matrix.dtype, device=matrix.device)
    return start.expand(*matrix.shape[:-2], n, 1)


def _scaled(v: Tensor) -> Tensor:
    """v divided by its largest absolute entry; 0 stays 0."""
    return v / v.abs().amax(-2, keepdim=True).clamp(min=torch.finfo(v.dtype).tiny)


def _scaled_norm(v: Tensor) -> Tensor:
    """2-norm along the last axis of entries whose squares may leave the range of the dtype."""
    largest = v.abs().amax(-1).clamp(min=torch.finfo(v.dtype).tiny)
    return torch.linalg.vector_norm(v / largest.unsqueeze(-1), dim=-1) * largest
