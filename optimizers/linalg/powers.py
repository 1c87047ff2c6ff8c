"""Real powers of symmetric positive semidefinite matrices: what a power is, and that by `eigh`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from optimizers.linalg.eigh import eigh_retried


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
    return decomposed_power(
        matrix, exponent, damping=damping, floor=floor, dtype=dtype, out_dtype=out_dtype
    )[0]


def decomposed_power(
    matrix: Tensor,
    exponent: float | Tensor,
    *,
    damping: float | Tensor = 0.0,
    floor: float = 0.0,
    dtype: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
) -> tuple[Power, Tensor]:
    """As `power_by_eigh`, and the eigenvectors V, shape (..., n, n), in the working dtype."""
    bases = []

    def solve(matrix: Tensor, exponent: float | Tensor, damping: float | Tensor) -> Power:
        values, vectors, num_retries = eigh_retried(matrix)
        bases.append(vectors)
        damped = (values + unsqueezed(damping, 1)).clamp(min=floor)
        # V diag^(p/2) times its transpose: one product, and no negative eigenvalue by round-off.
        half = vectors * damped.pow(0.5 * unsqueezed(exponent, 1)).unsqueeze(-2)
        failed = torch.zeros_like(values[..., 0], dtype=torch.bool)
        return Power(half @ half.mT, values, failed, num_retries)

    power = solve_guarded(solve, matrix, exponent, damping, dtype=dtype, out_dtype=out_dtype)
    return power, bases[0]


def solve_guarded(
    solve: Callable[..., Power],
    matrix: Tensor,
    *options: float | Tensor,
    dtype: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
    retry: bool = True,
) -> Power:
    """Apply a method to the finite matrices of a batch, in float64 where that fails.

    A matrix that is not finite fails. One host synchronisation, to learn whether any failed.

    Args:
        solve: takes finite symmetric matrices and the options; its `power` is in their dtype, and
            need not be marked as failed where it is not finite.
        matrix: shape (..., n, n), real.
        options: numbers, or tensors of shape (...), one value for each matrix.
        dtype: working dtype; None: the matrix's, float32 if that is narrower.
        out_dtype: dtype of the result; None: the matrix's.
        retry: whether to do in float64 what failed in a narrower working dtype.
    """
    work = symmetrise(matrix.to(dtype or working_dtype(matrix.dtype)))
    out_dtype = out_dtype or matrix.dtype
    finite = all_finite(work)
    # Asking whether all are finite would be one more synchronisation on CUDA, but a pass less here.
    if work.device.type != "cpu" or not finite.all():
        work = torch.where(finite[..., None, None], work, identity_like(work))
    solved = solve(work, *options)
    power, values, num_retries = solved.power.to(out_dtype), solved.eigenvalues, solved.num_retries
    failed = solved.failed | ~all_finite(power)
    again = failed & finite
    if retry and work.dtype != torch.float64 and again.any():
        picked = (x[again] if isinstance(x, Tensor) else x for x in options)
        wide = solve(symmetrise(matrix[again].double()), *picked)
        power[again] = wide.power.to(out_dtype)
        values[again] = wide.eigenvalues.to(values.dtype)
        failed[again] = wide.failed | ~all_finite(power[again])
        num_retries += len(wide.power)
    return Power(power, values, failed | ~finite, num_retries)


def residual(
    power: Tensor, matrix: Tensor, exponent: float, *, damping: float | Tensor = 0.0
) -> Tensor:
    """Measure how far X is from being the power of a matrix, shape (...), float64.

    Equation, with q = 1 / |p| and A standing for A + damping I:
        p < 0: |X^q A - I|_F / sqrt(n)
        p > 0: |X^q - A|_F / |A|_F
    Both are relative errors; neither inverts A. 0 for p > 0 and A = X = 0. A floor under the
    eigenvalues is not known here and shows up as an error. Float64, with a decomposition of X where
    q is not an integer: for telemetry, not for each step.

    Args:
        power: X, shape (..., n, n).
        matrix: A, shape (..., n, n).
        exponent: p, not 0.
        damping: as given to the root; a number or of shape (...).
    """
    X, A = symmetrise(power.double()), symmetrise(matrix.double())
    eye = identity_like(A)
    A = A + unsqueezed(damping, 2) * eye
    degree = 1 / abs(exponent)
    if abs(degree - round(degree)) < 1e-9:
        raised = torch.linalg.matrix_power(X, round(degree))
    else:
        raised = power_by_eigh(X, degree).power
    if exponent < 0:
        return torch.linalg.matrix_norm(raised @ A - eye) / A.shape[-1] ** 0.5
    tiny = torch.finfo(torch.float64).tiny
    return torch.linalg.matrix_norm(raised - A) / torch.linalg.matrix_norm(A).clamp(min=tiny)


def symmetrise(matrix: Tensor) -> Tensor:
    """(A + A^T) / 2 of (..., n, n), without overflow of the sum."""
    half = 0.5 * matrix
    return half + half.mT


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself, or float32 where it is narrower (float16, bfloat16)."""
    return torch.promote_types(dtype, torch.float32)


def all_finite(matrix: Tensor) -> Tensor:
    """Whether every entry of a matrix is finite, (..., n, n) to (...).

    By the extremes, which NaN survives: `isfinite` of each entry takes twenty times as long.
    """
    return matrix.amax((-2, -1)).isfinite() & matrix.amin((-2, -1)).isfinite()


def identity_like(matrix: Tensor) -> Tensor:
    """The identity (n, n) in the dtype and on the device of (..., n, n)."""
    return torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)


def unsqueezed(value: float | Tensor, num_dims: int) -> float | Tensor:
    """A number as it is, a tensor of shape (...) with axes to broadcast over a matrix."""
    return value[(..., *[None] * num_dims)] if isinstance(value, Tensor) else value
