"""Other approximations of a curvature matrix than by block means [Lu et al. 2018, section 5]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from optimizers.common.partition import num_blocks
from optimizers.linalg import block_mean

RANKS = (1, 2, 3, 10, 27, 45)


def approximations(
    matrix: Tensor, shapes: Sequence[torch.Size]
) -> Iterator[tuple[str, int, Tensor]]:
    """Yield (method, numbers stored, the approximation) of a symmetric matrix (d, d).

    All are the best in the Frobenius norm of their kind: block means, the diagonal, diagonal blocks
    by layer, unit and kernel, rank r, and a Kronecker product for each layer's weights [Van Loan &
    Pitsianis 1993] with full blocks for the biases.
    """
    d = len(matrix)
    for partition in ("layer", "unit", "group"):
        sizes = sizes_of(shapes, partition)
        L = len(sizes)
        dense = block_mean.dense(*block_mean.approximate(matrix, sizes), sizes)
        yield f"block means, {partition}", L + L * (L + 1) // 2, dense
    yield "diagonal", d, torch.diag(matrix.diagonal())
    for partition in ("layer", "unit", "group"):
        sizes = sizes_of(shapes, partition).long().tolist()
        stored = sum(size * (size + 1) // 2 for size in sizes)
        yield f"diagonal blocks, {partition}", stored, of_blocks(matrix, sizes)
    values, vectors = torch.linalg.eigh(matrix)
    for rank in RANKS:
        kept = vectors[:, -rank:]
        yield f"rank {rank}", d * rank, (kept * values[-rank:]) @ kept.mT
    yield "Kronecker products, layer", *kronecker(matrix, shapes)


def sizes_of(shapes: Sequence[torch.Size], partition: str) -> Tensor:
    """Sizes of the blocks in the order of the parameters, (L,), float64."""
    counts = [num_blocks(shape, partition) for shape in shapes]
    sizes = [s.numel() // n for s, n in zip(shapes, counts, strict=True) for _ in range(n)]
    return torch.tensor(sizes, dtype=torch.float64)


def of_blocks(matrix: Tensor, sizes: Sequence[int]) -> Tensor:
    """The diagonal blocks of these sizes, all else zero."""
    return torch.block_diag(*blocks(matrix, sizes))


def blocks(matrix: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The diagonal blocks of these sizes."""
    bands = zip(matrix.split(list(sizes)), sizes, strict=True)
    starts = torch.tensor([0, *sizes]).cumsum(0).tolist()
    return [
        band[:, start : start + size] for (band, size), start in zip(bands, starts, strict=False)
    ]


def kronecker(matrix: Tensor, shapes: Sequence[torch.Size]) -> tuple[int, Tensor]:
    """Numbers stored, and the best A (x) B of each weight's block; a bias keeps its block."""
    parts, stored = [], 0
    for block, shape in zip(blocks(matrix, [s.numel() for s in shapes]), shapes, strict=True):
        if len(shape) < 2:
            parts.append(block)
            stored += shape[0] * (shape[0] + 1) // 2
            continue
        m, n = shape[0], shape.numel() // shape[0]
        # A (x) B, rearranged so that it is vec(A) vec(B)': its best is the first singular triple.
        rearranged = block.view(m, n, m, n).transpose(1, 2).reshape(m * m, n * n)
        u, s, v = torch.linalg.svd(rearranged, full_matrices=False)
        parts.append(torch.kron((s[0] * u[:, 0]).view(m, m), v[0].view(n, n)))
        stored += m * (m + 1) // 2 + n * (n + 1) // 2
    return stored, torch.block_diag(*parts)
