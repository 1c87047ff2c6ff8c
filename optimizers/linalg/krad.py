"""Kronecker approximation-domination: the update of an inverse factor without an inverse.

Layout: `factor` L is (batch, n, n), symmetric, positive semi-definite; `columns` F is (batch, n, c)
with A = F F^T the increment of curvature (F is the unfolded gradient G, or G R^{1/2} in KrADagrad);
`image` is L F. Everything runs on the device in the dtype given, without host synchronisation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import normalize

from optimizers.linalg.powers import decomposed_power

# Start vectors of the power iteration: as cheap as one, since the matrix is read once for all.
NUM_PROBES = 4
# Largest n for which A L is formed: the product then costs less than the passes that it saves.
MAX_FORMED = 64


def trace_bound(columns: Tensor, image: Tensor, num_iterations: int) -> Tensor:
    """t = 1 + tr(A L), shape (batch,); takes no product of matrices and no iteration."""
    return 1 + (columns * image).sum(dim=(-2, -1))


def trace_dim_bound(columns: Tensor, image: Tensor, num_iterations: int) -> Tensor:
    """t = n (1 + tr(A L)), shape (batch,), as the authors released it."""
    return columns.shape[-2] * trace_bound(columns, image, num_iterations)


def frobenius_bound(columns: Tensor, image: Tensor, num_iterations: int) -> Tensor:
    """t = 1 + ||A L||_F, shape (batch,) [Mei et al. 2023, proposition 3.2]; one product more.

    The smaller of two products is made: ||A L||_F^2 = ||F (L F)^T||_F^2 = tr(F^T F (L F)^T L F).
    """
    if 2 * columns.shape[-1] <= columns.shape[-2]:
        products = (columns.mT @ columns) * (image.mT @ image)
        # Positive as the trace of a product of two positive semi-definite matrices; round-off not.
        return 1 + products.sum(dim=(-2, -1)).clamp(min=0).sqrt()
    return 1 + torch.linalg.vector_norm(columns @ image.mT, dim=(-2, -1))


def spectral_bound(columns: Tensor, image: Tensor, num_iterations: int) -> Tensor:
    """t = 1 + ||A L||_2, shape (batch,) [Mei et al. 2023, proposition 3.2], by power iteration.

    An iterate is below the norm, while L stays positive only if t exceeds the spectral radius of
    A L. So the residual is added, which vanishes as the iterate converges, and the largest of
    `NUM_PROBES` such sums is taken. On matrices of random gradients, whose leading singular values
    lie close together, 2 iterations were never below the radius and at most 0.4 above the norm,
    relatively; one, or two of 2 vectors, missed it by up to 0.01. Exact for a single column.

    A L is formed where it is small and F is wide. Else four passes over F and L F an iteration cost
    less than one product of n^2 c operations; vectors are rows, which CPUs multiply thrice as fast
    as columns here.

    Args:
        columns: F, shape (batch, n, c).
        image: L F, shape (batch, n, c).
        num_iterations: of the power iteration, >= 1.
    """
    n, c = columns.shape[-2:]
    if c == 1:
        return frobenius_bound(columns, image, num_iterations)
    if n <= min(c, MAX_FORMED):
        product = columns @ image.mT

        def forward(vectors: Tensor) -> Tensor:  # (A L v)^T
            return vectors @ product.mT

        def back(vectors: Tensor) -> Tensor:  # (L A u)^T
            return vectors @ product

        start = back(_probes(n, columns.dtype, columns.device))
    else:

        def forward(vectors: Tensor) -> Tensor:
            return (vectors @ image) @ columns.mT

        def back(vectors: Tensor) -> Tensor:
            return (vectors @ columns) @ image.mT

        start = _probes(c, columns.dtype, columns.device) @ image.mT
    vectors = _unit_rows(start)
    for _ in range(num_iterations - 1):
        vectors = _unit_rows(back(forward(vectors)))
    image_of = forward(vectors)
    values = torch.linalg.vector_norm(image_of, dim=-1, keepdim=True)
    residuals = torch.linalg.vector_norm(
        back(_unit_rows(image_of)) - values * vectors, dim=-1, keepdim=True
    )
    return 1 + (values + residuals).amax(dim=(-2, -1))


T_RULES: MappingProxyType[str, Callable[[Tensor, Tensor, int], Tensor]] = MappingProxyType(
    {
        "spectral": spectral_bound,
        "frobenius": frobenius_bound,
        "trace": trace_bound,
        "trace_dim": trace_dim_bound,
    }
)


def age_(factor: Tensor, beta2: float, damping: float) -> Tensor:
    """L <- L / beta2, then L <- L - damping L L^T, in place; returns L.

    The second is (L^{-1} + damping I)^{-1} to first order [Mei et al. 2023, appendix C.4]; L stays
    positive while damping times its largest eigenvalue is below 1.
    """
    if beta2 != 1:
        # What L lacks in symmetry is not lowered by eq. 13: it would grow by 1 / beta2 a step until
        # L F is wrong altogether, after 130 steps in float32 with beta2 = 0.9.
        factor.copy_(torch.add(factor, factor.mT).mul_(0.5 / beta2))
    if damping != 0:
        factor.copy_(torch.baddbmm(factor, factor, factor.mT, alpha=-damping))
    return factor


def krad_(factor: Tensor, columns: Tensor, t_rule: str, num_iterations: int) -> Tensor:
    """Lower L by L A L / t in place and return t.

    Equation: L <- L - (1/t) L A L,   L A L = (L F)(L F)^T     [Mei et al. 2023, eq. 13]

    Two products of 2 n^2 c operations, three with the Frobenius norm.

    Args:
        factor: L, shape (batch, n, n); modified in place.
        columns: F, shape (batch, n, c), dtype of `factor`.
        t_rule: a key of `T_RULES`.
        num_iterations: of the power iteration, >= 1.
    Returns:
        t, shape (batch,).
    """
    image = _image(factor, columns)
    t = T_RULES[t_rule](columns, image, num_iterations)
    # Both sides of the product carry 1/sqrt(t), so that it is symmetric up to its own rounding.
    image.mul_(t.rsqrt()[:, None, None])
    factor.baddbmm_(image, image.mT, alpha=-1)
    return t


def woodbury_(factor: Tensor, columns: Tensor, t_rule: str, num_iterations: int) -> Tensor:
    """Replace L by (L^{-1} + A / t)^{-1} in place and return t.

    Equation: (L^{-1} + A/t)^{-1} = L - L F (t I + F^T L F)^{-1} (L F)^T   [Mei et al. 2023, eq. 12]

    Of which eq. 13 is the lower bound that needs no solve. F is reduced to n columns or fewer, so
    that the system is min(n, c) square. Arguments and result are those of `krad_`.
    """
    image = _image(factor, columns)
    t = T_RULES[t_rule](columns, image, num_iterations)
    if columns.shape[-1] > columns.shape[-2]:
        # F F^T = S S^T with the triangular factor S of F^T = Q S^T.
        columns = torch.linalg.qr(columns.mT, mode="r").R.mT
        image = factor @ columns
    system = columns.mT @ image
    system.diagonal(dim1=-2, dim2=-1).add_(t[:, None])
    chol = torch.linalg.cholesky_ex(system).L
    half = torch.linalg.solve_triangular(chol, image.mT, upper=False)
    factor.baddbmm_(half.mT, half, alpha=-1)
    return t


def capped(factor: Tensor, ceiling: float) -> Tensor:
    """L (batch, n, n) with its eigenvalues cut to [0, ceiling].

    Only what lies outside is taken off, so that round-off of large eigenvalues spares small ones.
    """
    decomposed, vectors = decomposed_power(factor, 1.0)
    values = decomposed.eigenvalues
    excess = (values - values.clamp(min=0, max=ceiling))[:, None, :]
    wide = factor.to(vectors.dtype)
    return torch.baddbmm(wide, vectors * excess, vectors.mT, alpha=-1).to(factor.dtype)


def _image(factor: Tensor, columns: Tensor) -> Tensor:
    """L F in the memory layout of F, so that what takes both reads them alike; L is symmetric."""
    if columns.mT.is_contiguous() and not columns.is_contiguous():
        return (columns.mT @ factor).mT
    return factor @ columns


@lru_cache(maxsize=256)
def _probes(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Fixed vectors (p, n) without the symmetries that gradients have, such as rows of sum zero.

    Kept, as it takes seven small operations to make them; not to be changed in place.
    """
    i = torch.arange(1, n + 1, dtype=torch.float64, device=device)
    j = torch.arange(1, NUM_PROBES + 1, dtype=torch.float64, device=device)[:, None]
    # Phases that grow with the square of i, irrational multiples of 2 pi: equidistributed.
    return torch.cos(3.8832220774509327 * i * i + 1.3 * i * j + j).to(dtype)


def _unit_rows(vectors: Tensor) -> Tensor:
    """Rows of (batch, p, n) scaled to the norm 1; zero rows stay zero."""
    return normalize(vectors, dim=-1, eps=torch.finfo(vectors.dtype).tiny)
