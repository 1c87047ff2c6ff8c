"""Kronecker factors of batches of tensor blocks: unfolding, Gram matrices, application.

A batch of k-mode blocks has shape (N, n_1, ..., n_k), contiguous; modes count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# A mode shorter than a register (16 float32 numbers in AVX-512) is slow where BLAS vectorises along
# it. Ten blocks (4096, 9), ms on one thread: Gram matrices 0.38, from a turned copy 0.23 with the
# copy; product with (9, 9) 0.52 and 0.20. From 16 on the copy costs more than it gives.
MIN_ROW = 16


def unfold(blocks: Tensor, mode: int) -> Tensor:
    """Mode unfolding, shape (N, n_mode, product of the others), the others in their order.

    A view for the first and for a long last mode, which BLAS reads as it lies; else a copy.
    """
    n = blocks.shape[mode + 1]
    if mode == 0:
        return blocks.reshape(len(blocks), n, -1)
    if mode == blocks.ndim - 2:
        turned = blocks.reshape(len(blocks), -1, n).transpose(1, 2)
        return turned if n >= MIN_ROW else turned.contiguous()
    return blocks.movedim(mode + 1, 1).reshape(len(blocks), n, -1)


def unfoldings(blocks: Tensor) -> list[Tensor]:
    """Unfoldings of all modes, (N, n_i, product of the others), their columns in any order.

    What Gram matrices and products from the left need, with one copy for blocks of three modes,
    where `unfold` makes two: with the last mode turned to the front, the middle one is last.
    """
    num_modes = blocks.ndim - 1
    if num_modes != 3:
        return [unfold(blocks, mode) for mode in range(num_modes)]
    turned = unfold(blocks, 2).contiguous()
    middle = turned.view(len(blocks), -1, blocks.shape[2]).transpose(1, 2)
    return [unfold(blocks, 0), middle, turned]


def fold(unfolded: Tensor, mode: int, shape: Sequence[int]) -> Tensor:
    """Undo `unfold`: shape (N, *shape). A view of `unfolded` wherever its strides allow it."""
    rest = [*shape[:mode], *shape[mode + 1 :]]
    return unfolded.unflatten(2, rest or [1]).movedim(1, mode + 1).reshape(-1, *shape)


def add_gram_(factor: Tensor, unfolded: Tensor, beta: float, alpha: float) -> Tensor:
    """S <- beta S + alpha F F^T in place.

    Args:
        factor: S, shape (N, n, n).
        unfolded: F, shape (N, n, c), dtype of `factor`.
    """
    return factor.baddbmm_(unfolded, unfolded.transpose(1, 2), beta=beta, alpha=alpha)


def multiply_mode(blocks: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """G x_mode P: multiply the mode by P, shape (N, n, n); same shape as `blocks`."""
    n = blocks.shape[mode + 1]
    if mode == blocks.ndim - 2:
        rows = blocks.reshape(len(blocks), -1, n)
        if n < MIN_ROW:
            return torch.bmm(matrix, rows.transpose(1, 2)).transpose(1, 2).reshape(blocks.shape)
        return torch.bmm(rows, matrix.transpose(1, 2)).view(blocks.shape)
    return fold(torch.bmm(matrix, unfold(blocks, mode)), mode, blocks.shape[1:])


def multiply_modes(
    blocks: Tensor, matrices: Sequence[Tensor | None], spare: Tensor | None = None
) -> Tensor:
    """G x_1 P_1 x_2 P_2 ... x_k P_k with symmetric P_i, None for the identity.

    Each product takes the first mode away and appends it at the end, so that after k of them the
    modes are in their order again: one batched product a mode, a copy only where one is short.

    Args:
        blocks: G, shape (N, n_1, ..., n_k), contiguous; overwritten if `spare` is given.
        matrices: P_i, shape (N, n_i, n_i), symmetric, dtype of `blocks`.
        spare: workspace of the size of `blocks`, overwritten. Without one, memory is allocated.
    Returns:
        Shape (N, n_1, ..., n_k), contiguous; with `spare` it lies in `blocks` or in `spare`.
    """
    sizes, count = list(blocks.shape[1:]), len(blocks)
    source, target = blocks, spare
    for matrix in matrices:
        n = sizes[0]
        sizes = [*sizes[1:], n]
        turned = source.reshape(count, n, -1).transpose(1, 2)
        out = (torch.empty_like(blocks) if target is None else target).view(count, -1, n)
        if matrix is None:
            out.copy_(turned)
        elif n >= MIN_ROW:
            torch.bmm(turned, matrix, out=out)
        else:
            product = torch.bmm(matrix, turned.transpose(1, 2))
            out.copy_(product.transpose(1, 2))
        source, target = out, None if spare is None else source
    return source.view(blocks.shape)
