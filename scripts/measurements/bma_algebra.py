"""Block-mean matrices against dense ones [Lu et al. 2018, section 3 and appendix].

Proposition 1, theorems 1 and 2 and lemma 1 over random partitions and matrices, and the multiple of
the identity that section 5 sets against approximations of low rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from optimizers.linalg import block_mean
from scripts.measurements import kit

NUM_CASES = 100
MAX_BLOCKS, MAX_SIZE = 6, 5


def algebra() -> list[dict[str, object]]:
    """Relative errors of the closed forms, a row a case and statement.

    case: "optimum" (proposition 1 against a least-squares solve), "inverse" (theorem 1),
    "square_root" (lemma 1), "inverse_root" (theorem 2); value: Frobenius error over the reference's
    norm; num_singles: blocks of size 1, for which the paper has a case of its own.
    """
    rows = []
    for seed, generator in kit.cases(NUM_CASES):
        sizes = torch.randint(1, MAX_SIZE + 1, (2 + seed % (MAX_BLOCKS - 1),), generator=generator)
        sizes = sizes.double()
        matrix = kit.symmetric(
            kit.gaussian(int(sizes.sum()), int(sizes.sum()), generator=generator)
        )
        diagonal, constants = positive_definite(sizes, generator)
        dense = block_mean.dense(diagonal, constants, sizes)
        root, _ = block_mean.inverse_root(diagonal, constants, sizes)
        inverse = block_mean.inverse(diagonal, constants, sizes)
        square = square_root(diagonal, constants, sizes)
        best = block_mean.dense(*block_mean.approximate(matrix, sizes), sizes)
        pairs = {
            "optimum": (best, least_squares(matrix, sizes)),
            "inverse": (block_mean.dense(1 / diagonal, inverse, sizes), torch.linalg.inv(dense)),
            "square_root": (
                block_mean.dense(diagonal.sqrt(), square, sizes),
                kit.matrix_power(dense, 0.5),
            ),
            "inverse_root": (
                block_mean.dense(diagonal.rsqrt(), root, sizes),
                kit.matrix_power(dense, -0.5),
            ),
        }
        labels = {"seed": seed, "num_blocks": len(sizes), "num_singles": int((sizes == 1).sum())}
        rows += [
            {"case": case, **labels, "value": kit.relative_error(*pair)}
            for case, pair in pairs.items()
        ]
    return rows


def positive_definite(sizes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Diagonal and constants of a positive definite block-mean matrix; B itself is indefinite."""
    diagonal = 0.2 + torch.rand(len(sizes), generator=generator, dtype=torch.float64)
    constants = kit.symmetric(kit.gaussian(len(sizes), len(sizes), generator=generator))
    roots = sizes.sqrt()
    least = kit.least_eigenvalue(torch.diag(diagonal) + roots[:, None] * constants * roots)
    # lambda raised alike in every block raises all eigenvalues alike.
    return diagonal + max(0.0, 0.1 - least), constants


def square_root(diagonal: Tensor, constants: Tensor, sizes: Tensor) -> Tensor:
    """D of lemma 1: S^{-1/2} [(Lambda + S^{1/2} B S^{1/2})^{1/2} - Lambda^{1/2}] S^{-1/2}."""
    roots = sizes.sqrt()
    inner = kit.matrix_power(torch.diag(diagonal) + roots[:, None] * constants * roots, 0.5)
    return (inner - torch.diag(diagonal.sqrt())) / roots[:, None] / roots


def least_squares(matrix: Tensor, sizes: Tensor) -> Tensor:
    """The nearest block-mean matrix, by a dense solve over all of its free numbers.

    In a block of size 1 lambda and b_ii do the same; the solve of least norm shares it between
    them, which leaves their sum, and so the matrix, as it is.
    """
    L = len(sizes)
    basis = []
    for i in range(L):
        unit = torch.zeros(L, dtype=torch.float64)
        unit[i] = 1
        basis.append(block_mean.dense(unit, torch.zeros(L, L, dtype=torch.float64), sizes))
        for j in range(L):
            constants = torch.zeros(L, L, dtype=torch.float64)
            constants[i, j] = 1
            basis.append(block_mean.dense(0 * unit, constants, sizes))
    columns = torch.stack([part.reshape(-1) for part in basis], dim=1)
    solved = torch.linalg.lstsq(columns, matrix.reshape(-1, 1), driver="gelsd").solution
    return (columns @ solved).view_as(matrix)


def multiples_of_identity() -> list[dict[str, object]]:
    """Relative errors of approximations of sigma I, d = 24, by blocks and by rank r.

    case: "block_mean" (any partition), "low_rank_error" (of the best approximation of rank r
    against the predicted sigma (d - r)^{1/2}), "low_rank" (that error over the matrix's norm).
    """
    d, rows = 24, []
    for seed, generator in kit.cases(NUM_CASES):
        sigma = float(10 ** (4 * torch.rand((), generator=generator, dtype=torch.float64) - 2))
        matrix = sigma * torch.eye(d, dtype=torch.float64)
        rank = 1 + seed % (d - 1)
        sizes = random_partition(d, generator)
        block = block_mean.dense(*block_mean.approximate(matrix, sizes), sizes)
        u, s, v = torch.linalg.svd(matrix)
        error = float(torch.linalg.vector_norm(matrix - (u[:, :rank] * s[:rank]) @ v[:rank]))
        predicted = sigma * (d - rank) ** 0.5
        labels = {"seed": seed, "num_blocks": len(sizes), "rank": rank}
        values = {
            "block_mean": kit.relative_error(block, matrix),
            "low_rank_error": abs(error / predicted - 1),
            "low_rank": error / float(torch.linalg.vector_norm(matrix)),
        }
        rows += [{"case": case, **labels, "value": value} for case, value in values.items()]
    return rows


def random_partition(total: int, generator: torch.Generator) -> Tensor:
    """Sizes of blocks that sum to `total`, cut at random places."""
    cuts = torch.rand(total - 1, generator=generator) < 0.3
    sizes: Sequence[int] = [1]
    for cut in cuts.tolist():
        sizes = [*sizes, 1] if cut else [*sizes[:-1], sizes[-1] + 1]
    return torch.tensor(sizes, dtype=torch.float64)


EXACT = {"bma_algebra": algebra, "bma_identity": multiples_of_identity}
