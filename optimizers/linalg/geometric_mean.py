"""Geometric mean of two symmetric positive definite matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.linalg.eigh import eigh_retried
from optimizers.linalg.powers import Power, all_finite, power_by_eigh, symmetrise, working_dtype


def geometric_mean(
    A: Tensor,
    B: Tensor,
    *,
    damping: float = 0.0,
    dtype: torch.dtype | None = None,
    out_dtype: torch.dtype | None = None,
) -> Power:
    """Geometric mean of matrices: symmetric, and the one that commutes with congruence.

    Equation: M_g(A, B) = A (A^-1 B)^(1/2)      [Mei et al. 2023, section 3.3]
    Departure from the paper: computed as K (K^-1 B K^-T)^(1/2) K^T, K = V Lambda^(1/2), A = K K^T,
    which is the same matrix and takes the root of a symmetric one. O(n^3), two decompositions.

    Args:
        A: shape (..., n, n), symmetric positive definite, once damped.
        B: shape (..., n, n), symmetric positive semidefinite.
        damping: multiple of the identity added to both; in their units; >= 0.
        dtype: working dtype, float32 or float64; None: that of `A`, float32 if narrower.
        out_dtype: dtype of the result; None: that of `A`.
    Returns:
        M_g, and as eigenvalues those of K^-1 B K^-T, that is of A^-1 B, which have no unit.
    """
    dtype, out_dtype = dtype or working_dtype(A.dtype), out_dtype or A.dtype
    eye = torch.eye(A.shape[-1], dtype=dtype, device=A.device)
    A, B = symmetrise(A.to(dtype)), symmetrise(B.to(dtype)) + damping * eye
    finite = all_finite(A)
    values, vectors, num_retries = eigh_retried(torch.where(finite[..., None, None], A, eye))
    scales = (values + damping).clamp(min=0).sqrt().unsqueeze(-2)
    K, inverse = vectors * scales, (vectors / scales).mT
    middle = power_by_eigh(inverse @ B @ inverse.mT, 0.5)
    mean = (K @ middle.power @ K.mT).to(out_dtype)
    failed = middle.failed | ~finite | ~all_finite(mean)
    return Power(mean, middle.eigenvalues, failed, num_retries + middle.num_retries)
