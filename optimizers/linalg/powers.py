"""Real powers of symmetric positive semidefinite matrices by eigendecomposition."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optimizers.linalg.eigh import eigh_batched


class Power(NamedTuple):
    """A power of each matrix of a batch, and how it was come by.

    Attributes:
        power: shape (..., n, n), symmetric up to round-off.
        eigenvalues: shape (..., n), ascending, of the matrix without damping and as computed, hence
            slightly negative where it is singular; working dtype. Empty, (..., 0), where the method
            does not know them.
        failed: shape (...), bool: no finite power was found, `power` is to be ignored there.
        num_retries: matrices done again in float64.
    """

    power: Tensor
    eigenvalues: Tensor
    failed: Tensor
    num_retries: int


def power_by_eigh(
    matrix: Tensor,
    exponent: float | Tensor,
    *,
    damping: float | Tensor = 0.0,
    floor: float = 0.0,
    dtype: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
) -> Power:
    """Raise symmetric positive semidefinite matrices to a real power.

    Equation: (A + damping I)^p = V diag(max(lambda + damping, floor)^p) V^T, A = V diag(lambda) V^T

    The damping is added to the eigenvalues, so that round-off of the sum does not hide small ones.
    No pseudo-inverse: a negative power of an eigenvalue that is not positive after the clamp fails.
    What does not converge, or has no finite power though the matrix is finite, is done again in
    float64, and on the CPU where it did not converge; see `Power.num_retries`. O(n^3) a matrix.

    Args:
        matrix: A, shape (..., n, n), real; symmetrised before the decomposition.
        exponent: p, a number or of shape (...).
        damping: added to the eigenvalues; in the matrix's units, a number or of shape (...); >= 0.
        floor: lower bound of the damped eigenvalues; in the matrix's units; >= 0.
        dtype: working dtype, float32 or float64; None: the matrix's, float32 if that is narrower.
        out_dtype: dtype of the result; None: the matrix's.
    """
    work = symmetrise(matrix.to(dtype or working_dtype(matrix.dtype)))
    out_dtype = out_dtype or matrix.dtype
    finite = work.isfinite().flatten(-2).all(-1)
    work = torch.where(finite[..., None, None], work, _identity_like(work))
    values, vectors, num_retries = _decompose(work)
    power = _assemble(values, vectors, exponent, damping, floor).to(out_dtype)
    failed = ~power.isfinite().flatten(-2).all(-1)
    again = failed & finite
    if work.dtype != torch.float64 and again.any():
        picked = [_pick(x, again) for x in (exponent, damping)]
        wide = _decompose(work[again].double())
        power[again] = _assemble(wide[0], wide[1], *picked, floor).to(out_dtype)
        values[again] = wide[0].to(values.dtype)
        num_retries += len(wide[0])
        failed = ~power.isfinite().flatten(-2).all(-1)
    return Power(power, values, failed | ~finite, num_retries)


def symmetrise(matrix: Tensor) -> Tensor:
    """(A + A^T) / 2 of (..., n, n), without overflow of the sum."""
    half = 0.5 * matrix
    return half + half.mT


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself, or float32 where it is narrower (float16, bfloat16)."""
    return torch.promote_types(dtype, torch.float32)


def _assemble(
    values: Tensor,
    vectors: Tensor,
    exponent: float | Tensor,
    damping: float | Tensor,
    floor: float,
) -> Tensor:
    """V diag(max(lambda + damping, floor)^p) V^T as a product of a factor with its transpose."""
    exponent, damping = (x[..., None] if isinstance(x, Tensor) else x for x in (exponent, damping))
    scales = (values + damping).clamp(min=floor).pow(0.5 * exponent)
    half = vectors * scales.unsqueeze(-2)
    return half @ half.mT


def _decompose(matrix: Tensor) -> tuple[Tensor, Tensor, int]:
    """`eigh_batched`; where it raises, one by one, and what still fails in float64 on the CPU.

    Returns eigenvalues and eigenvectors, NaN where all fail, and the number of matrices done again.
    """
    try:
        return *eigh_batched(matrix), 0
    except torch.linalg.LinAlgError:
        pass
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    values, vectors = torch.full_like(flat[..., 0], torch.nan), torch.full_like(flat, torch.nan)
    num_retries = 0
    for k, single in enumerate(flat):
        try:
            values[k], vectors[k] = eigh_batched(single)
        except torch.linalg.LinAlgError:
            num_retries += 1
            _retry_on_host(single, values[k], vectors[k])
    return values.reshape(matrix.shape[:-1]), vectors.reshape(matrix.shape), num_retries


def _retry_on_host(matrix: Tensor, values: Tensor, vectors: Tensor) -> None:
    """Write the float64 decomposition into `values` and `vectors`, or leave them as they are."""
    try:
        wide = eigh_batched(matrix.double().cpu())
    except torch.linalg.LinAlgError:
        return
    values.copy_(wide[0])
    vectors.copy_(wide[1])


def _identity_like(matrix: Tensor) -> Tensor:
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def _pick(value: float | Tensor, where: Tensor) -> float | Tensor:
    return value[where] if isinstance(value, Tensor) else value
