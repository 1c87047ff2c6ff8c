"""Block-mean matrices: a scaled identity in each diagonal block, a constant in every block.

For a partition of n values into L blocks of sizes s, S = diag(s), a vector lambda (L,) and a
matrix B (L, L) stand for the n x n matrix

    Lbar + Bbar,  Lbar^ii = lambda_i I,  Bbar^ij = b_ij 1 1^T  [Lu et al. 2018, definitions 1-3]

whose products, inverse and inverse square root cost what those of L x L matrices cost.
Shapes: `diagonal` (..., L), `constants` (..., L, L), `sizes` (L,), all of one floating dtype, which
is also that of the result. Nothing is modified.
"""

from __future__ import annotations

import torch
from torch import Tensor

from optimizers.linalg.eigh import eigh


def approximate(matrix: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Best block-mean approximation in the Frobenius norm [Lu et al. 2018, proposition 1].

    b_ij is the mean of block ij, b_ii that of the entries off its diagonal (0 in a block of size
    1), and lambda_i + b_ii the mean of the diagonal of block ii.

    Args:
        matrix: shape (..., n, n).
    Returns:
        diagonal and constants.
    """
    indicator = _indicator(sizes)
    sums = indicator.mT @ matrix @ indicator
    diagonal_means = matrix.diagonal(dim1=-2, dim2=-1) @ indicator / sizes
    off_diagonal = sums.diagonal(dim1=-2, dim2=-1) - diagonal_means * sizes
    within = off_diagonal / (sizes * (sizes - 1)).clamp(min=1)
    constants = sums / (sizes[:, None] * sizes)
    constants = constants - torch.diag_embed(constants.diagonal(dim1=-2, dim2=-1) - within)
    return diagonal_means - within, constants


def dense(diagonal: Tensor, constants: Tensor, sizes: Tensor) -> Tensor:
    """The matrix itself, shape (..., n, n)."""
    indicator = _indicator(sizes)
    return torch.diag_embed(diagonal @ indicator.mT) + indicator @ constants @ indicator.mT


def product(
    diagonal: Tensor,
    constants: Tensor,
    other_diagonal: Tensor,
    other_constants: Tensor,
    sizes: Tensor,
) -> tuple[Tensor, Tensor]:
    """Diagonal and constants of the product of two block-mean matrices.

    Equation: (L1 + B1)(L2 + B2) = L1 L2 + [L1 B2 + B1 L2 + B1 S B2]
    """
    mixed = diagonal[..., :, None] * other_constants + constants * other_diagonal[..., None, :]
    both = (constants * sizes) @ other_constants
    return diagonal * other_diagonal, mixed + both


def inverse(diagonal: Tensor, constants: Tensor, sizes: Tensor) -> Tensor:
    """Constants of the inverse, whose diagonal is 1/lambda [Lu et al. 2018, theorem 1].

    Equation: D = (Lambda S + S B S)^{-1} - (Lambda S)^{-1}

    Raises:
        torch.linalg.LinAlgError: if the matrix is singular.
    """
    scaled = torch.diag_embed(diagonal * sizes)
    inner = scaled + sizes[:, None] * constants * sizes
    return torch.linalg.inv(inner) - torch.diag_embed(1 / (diagonal * sizes))


def inverse_root(
    diagonal: Tensor, constants: Tensor, sizes: Tensor, floor: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Constants of the inverse square root, whose diagonal is lambda^{-1/2}. O(L^3).

    Equation: D = S^{-1/2} [(Lambda + S^{1/2} B S^{1/2})^{-1/2} - Lambda^{-1/2}] S^{-1/2}
              [Lu et al. 2018, theorem 2]

    Args:
        diagonal: lambda; > 0.
        constants: symmetric.
        floor: eigenvalues of the L x L matrix below it are raised to it.
    Returns:
        D, and the eigenvalues of the L x L matrix before they are raised, (..., L), ascending:
        with the lambda_i they are those of the n x n matrix.
    Raises:
        torch.linalg.LinAlgError: if the eigendecomposition does not converge.
    """
    roots = sizes.sqrt()
    inner = (constants + constants.mT) * (roots[:, None] * roots / 2)
    inner.diagonal(dim1=-2, dim2=-1).add_(diagonal)
    return scaled_inverse_root(inner, diagonal.rsqrt(), roots, floor)


def scaled_inverse_root(
    inner: Tensor, diagonal_root: Tensor | float, roots: Tensor, floor: float = 0.0
) -> tuple[Tensor, Tensor]:
    """`inverse_root` from what is in its parentheses.

    Args:
        inner: Lambda + S^{1/2} B S^{1/2}, shape (..., L, L), symmetric.
        diagonal_root: lambda^{-1/2}.
        roots: s^{1/2}, shape (L,).
        floor: as there; so are the results.
    """
    eigenvalues, Q = eigh(inner)
    bracket = (Q * eigenvalues.clamp(min=floor).rsqrt_()[..., None, :]) @ Q.mT
    bracket.diagonal(dim1=-2, dim2=-1).sub_(diagonal_root)
    return bracket.div_(roots).div_(roots[:, None]), eigenvalues


def second_moment_root(
    U: Tensor,
    v: Tensor,
    root_sizes: Tensor,
    floor: float,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Constants D of the inverse square root of the normalised second moments. O(L^3).

    Equation: D = S^{-1/2} [(I + (U - diag U) / (v v^T))^{-1/2} - I] S^{-1/2}
              [Lu et al. 2018, eq. 27; / is elementwise]

    Args:
        U: sum of u u^T over the steps, shape (L, L), float64.
        v: block sums of z, shape (L,), float64; > 0.
        root_sizes: square roots of the numbers of values in the blocks, shape (L,), float64.
        floor: eigenvalues of the matrix in parentheses below it are raised to it.
        dtype: of the eigendecomposition.
    Returns:
        D, (L, L), and the eigenvalues before they are raised, (L,), ascending; both in `dtype`.
    Raises:
        torch.linalg.LinAlgError: if the eigendecomposition does not converge.
    """
    W = (U / torch.outer(v, v)).fill_diagonal_(1.0)
    return scaled_inverse_root(W.to(dtype), 1.0, root_sizes.to(dtype), floor)


def root_residual(D: Tensor, eigenvalues: Tensor, root_sizes: Tensor) -> float:
    """|X^2 W - I|_F / |I|_F of X = I + S^{1/2} D S^{1/2}, from the eigenvalues of X and of W.

    Args:
        D, eigenvalues: what `second_moment_root` gave, the latter raised to the floor.
        root_sizes: as there.
    """
    X = D.double() * torch.outer(root_sizes, root_sizes)
    X.diagonal().add_(1)
    # X falls where W grows.
    error = torch.linalg.eigvalsh(X).flip(0).square() * eigenvalues - 1
    return float(error.norm()) / len(error) ** 0.5


def _indicator(sizes: Tensor) -> Tensor:
    """Matrix (n, L) that has a 1 where a value lies in a block."""
    blocks = torch.arange(len(sizes), device=sizes.device)
    blocks = blocks.repeat_interleave(sizes.to(torch.int64))
    return torch.nn.functional.one_hot(blocks, len(sizes)).to(sizes.dtype)
