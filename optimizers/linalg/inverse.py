"""Inverses of damped positive semidefinite matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from optimizers.linalg.eigh import eigh


class Inverse(NamedTuple):
    """The inverse of each matrix of a batch, and how it was come by.

    Attributes:
        inverse: shape (..., n, n), symmetric up to round-off, dtype of the matrix.
        failed: shape (...), bool: no finite inverse was found, `inverse` is to be ignored there.
        num_retries: matrices done again in float64.
    """

    inverse: Tensor
    failed: Tensor
    num_retries: int


def damped_inverse(matrix: Tensor, damping: float) -> Inverse:
    """(A + damping I)^-1 by Cholesky factors, in the matrix's dtype.

    Where the factorisation breaks down, by round-off alone as A is semidefinite, it is done again
    by eigenvalues in float64, those below the resolution of A, n eps |A|, taken for that: they are
    noise, by which nothing should be divided. O(n^3) a matrix, one host synchronisation.

    Args:
        matrix: A, shape (..., n, n), float32 or float64, symmetric.
        damping: in the matrix's units; >= 0, and > 0 unless A is definite.
    """
    damped = matrix.clone()
    damped.diagonal(dim1=-2, dim2=-1).add_(damping)
    factor, info = torch.linalg.cholesky_ex(damped)
    # A factor with a zero on its diagonal makes cholesky_inverse raise for the whole batch.
    eye = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    inverse = torch.cholesky_inverse(torch.where((info != 0)[..., None, None], eye, factor))
    failed = (info != 0) | ~inverse.isfinite().flatten(-2).all(-1)
    if not failed.any():
        return Inverse(inverse, failed, 0)
    again = failed & matrix.isfinite().flatten(-2).all(-1)
    for index in again.nonzero().tolist():
        values, vectors = eigh(matrix[tuple(index)].double())
        resolution = len(values) * torch.finfo(matrix.dtype).eps * values.abs().max()
        values = values.clamp(min=resolution) + damping
        inverse[tuple(index)] = ((vectors / values) @ vectors.mT).to(inverse.dtype)
    failed = ~inverse.isfinite().flatten(-2).all(-1) | (failed & ~again)
    return Inverse(inverse, failed, int(again.sum()))
