"""Mode products and Gram matrices of batches against the dense Kronecker product."""

import functools

import pytest
import torch

from optimizers.linalg.kron import (
    add_gram_,
    fold,
    multiply_mode,
    multiply_modes,
    unfold,
    unfoldings,
)

SHAPES = [(1,), (5,), (4, 3), (4, 3, 2), (2, 5, 3, 4)]
DTYPES = [torch.float32, torch.float64]
each_shape = pytest.mark.parametrize("shape", SHAPES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
# Sums of at most 60 products of numbers of size 1.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}


def draw(*shape, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def symmetric(count, shape, dtype=torch.float64):
    matrices = [draw(count, n, n, dtype=dtype, seed=n) for n in shape]
    return [matrix + matrix.mT for matrix in matrices]


def dense(blocks, matrices):
    """(P_1 kron ... kron P_k) vec(G), block by block, float64."""
    outs = []
    for i, block in enumerate(blocks.double()):
        whole = functools.reduce(torch.kron, [matrix[i].double() for matrix in matrices])
        outs.append((whole @ block.reshape(-1)).view(block.shape))
    return torch.stack(outs)


@each_shape
def test_unfolding_puts_a_mode_first_and_folding_undoes_it(shape):
    blocks = draw(3, *shape)
    for mode in range(len(shape)):
        unfolded = unfold(blocks, mode)
        for i in range(3):
            expected = blocks[i].movedim(mode, 0).reshape(shape[mode], -1)
            assert torch.equal(unfolded[i], expected)
        assert torch.equal(fold(unfolded, mode, shape), blocks)


@each_dtype
@each_shape
def test_gram_matrices(shape, dtype):
    blocks = draw(3, *shape, dtype=dtype)
    unfolded = unfoldings(blocks)
    for mode, n in enumerate(shape):
        factor = draw(3, n, n, dtype=dtype, seed=1)
        rows = blocks.double().movedim(mode + 1, 1).reshape(3, n, -1)
        expected = 0.5 * factor.double() + 2.0 * rows @ rows.mT
        out = add_gram_(factor, unfolded[mode], 0.5, 2.0)
        assert out is factor
        torch.testing.assert_close(
            factor.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
        )


@each_dtype
@each_shape
@pytest.mark.parametrize("with_spare", [True, False])
def test_all_modes_at_once_are_the_kronecker_product(shape, dtype, with_spare):
    blocks = draw(3, *shape, dtype=dtype)
    matrices = symmetric(3, shape, dtype)
    expected = dense(blocks, matrices)
    before = blocks.clone()
    spare = torch.empty_like(blocks) if with_spare else None
    out = multiply_modes(blocks, matrices, spare)
    tolerance = TOLERANCE[dtype] * float(expected.abs().max())
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)
    assert with_spare or torch.equal(blocks, before)
    assert out.is_contiguous()


@each_shape
def test_one_mode_alone_and_all_but_one(shape):
    blocks, matrices = draw(3, *shape), symmetric(3, shape)
    for mode in range(len(shape)):
        eyes = [torch.eye(n, dtype=torch.float64).expand(3, n, n) for n in shape]
        only = [matrix if i == mode else eyes[i] for i, matrix in enumerate(matrices)]
        rest = [None if i == mode else matrix for i, matrix in enumerate(matrices)]
        alone = multiply_mode(blocks, matrices[mode], mode)
        torch.testing.assert_close(alone, dense(blocks, only), rtol=1e-12, atol=1e-12)
        skipped = multiply_modes(blocks, rest)
        others = [eyes[i] if matrix is None else matrix for i, matrix in enumerate(rest)]
        torch.testing.assert_close(skipped, dense(blocks, others), rtol=1e-12, atol=1e-12)


def test_a_mode_product_takes_matrices_that_are_not_symmetric():
    blocks = draw(2, 4, 3, 2)
    for mode, n in enumerate((4, 3, 2)):
        matrix = draw(2, n, n, seed=5)
        expected = torch.einsum("bij,bjk->bik", matrix, unfold(blocks, mode))
        out = unfold(multiply_mode(blocks, matrix, mode), mode)
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
