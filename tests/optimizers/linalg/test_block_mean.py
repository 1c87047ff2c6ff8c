"""The algebra of block-mean matrices against dense matrices."""

import pytest
import torch

from optimizers.linalg import block_mean

# Sizes of blocks: equal and unequal, single values, one block alone.
SIZES = [(2, 5, 3), (1, 1, 4, 2), (6,), (1, 1, 1)]
each_partition = pytest.mark.parametrize("sizes", SIZES, ids=str)
# The dense references have condition numbers up to about 1e2, hence errors of some 1e-14.
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def example(sizes, seed=0, batch=()):
    """Positive definite: a positive diagonal and positive semi-definite constants."""
    generator = torch.Generator().manual_seed(seed)
    like = {"generator": generator, "dtype": torch.float64}
    diagonal = 0.5 + torch.rand(*batch, len(sizes), **like)
    root = torch.randn(*batch, len(sizes), len(sizes), **like)
    return diagonal, root @ root.mT / len(sizes), torch.tensor(sizes, dtype=torch.float64)


def by_hand(diagonal, constants, sizes):
    """The n x n matrix, entry by entry."""
    blocks = [i for i, size in enumerate(sizes) for _ in range(int(size))]
    rows = [
        [
            float(constants[i, j]) + (float(diagonal[i]) if m == n else 0.0)
            for n, j in enumerate(blocks)
        ]
        for m, i in enumerate(blocks)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@each_partition
def test_dense(sizes):
    matrix = example(sizes)
    assert torch.equal(block_mean.dense(*matrix), by_hand(*matrix))


@each_partition
def test_product(sizes):
    diagonal, constants, s = example(sizes)
    other_diagonal, other_constants, _ = example(sizes, seed=1)
    pair = block_mean.product(diagonal, constants, other_diagonal, other_constants, s)
    expected = by_hand(diagonal, constants, s) @ by_hand(other_diagonal, other_constants, s)
    torch.testing.assert_close(block_mean.dense(*pair, s), expected, **EXACT)


@each_partition
def test_inverse_is_theorem_1(sizes):
    diagonal, constants, s = example(sizes)
    ours = block_mean.dense(1 / diagonal, block_mean.inverse(diagonal, constants, s), s)
    torch.testing.assert_close(ours, torch.linalg.inv(by_hand(diagonal, constants, s)), **EXACT)


@each_partition
def test_inverse_root_is_theorem_2(sizes):
    diagonal, constants, s = example(sizes)
    D, eigenvalues = block_mean.inverse_root(diagonal, constants, s)
    ours = block_mean.dense(diagonal.rsqrt(), D, s)
    values, Q = torch.linalg.eigh(by_hand(diagonal, constants, s))
    torch.testing.assert_close(ours, Q @ torch.diag(values.rsqrt()) @ Q.T, **EXACT)
    whole = [lam for lam, size in zip(diagonal, sizes, strict=True) for _ in range(size - 1)]
    together = torch.cat([eigenvalues, torch.tensor(whole, dtype=torch.float64)]).sort().values
    torch.testing.assert_close(together, values, **EXACT)


def test_inverse_root_raises_small_eigenvalues_to_the_floor():
    s = torch.tensor([2.0, 3.0], dtype=torch.float64)
    # S^{1/2} B S^{1/2} = [[0, 1], [1, 0]]: the inner matrix is that of all ones, eigenvalues 0, 2.
    constants = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64) / 6**0.5
    D, eigenvalues = block_mean.inverse_root(torch.ones(2, dtype=torch.float64), constants, s, 0.25)
    torch.testing.assert_close(eigenvalues, torch.tensor([0.0, 2.0], dtype=torch.float64), **EXACT)
    values, Q = torch.linalg.eigh(by_hand(torch.ones(2), constants, s))
    expected = Q @ torch.diag(values.clamp(min=0.25).rsqrt()) @ Q.T
    ours = block_mean.dense(torch.ones(2, dtype=torch.float64), D, s)
    torch.testing.assert_close(ours, expected, **EXACT)


@each_partition
def test_approximation_is_the_nearest_block_mean_matrix(sizes):
    n = sum(sizes)
    generator = torch.Generator().manual_seed(2)
    matrix = torch.randn(n, n, generator=generator, dtype=torch.float64)
    s = torch.tensor(sizes, dtype=torch.float64)
    diagonal, constants = block_mean.approximate(matrix, s)
    # The residual is orthogonal to every block-mean matrix: its block sums and traces vanish.
    residual = matrix - by_hand(diagonal, constants, s)
    for block in residual.split(sizes):
        for part in block.split(sizes, dim=1):
            assert abs(float(part.sum())) < 1e-12
    for start, size in zip(torch.tensor((0, *sizes)).cumsum(0).tolist(), sizes, strict=False):
        trace = residual[start : start + size, start : start + size].trace()
        assert abs(float(trace)) < 1e-12
    alone = [i for i, size in enumerate(sizes) if size == 1]
    assert all(constants[i, i] == 0 for i in alone)
    again = block_mean.approximate(by_hand(diagonal, constants, s), s)
    torch.testing.assert_close(again, (diagonal, constants), **EXACT)


def test_leading_dimensions_are_a_batch():
    diagonal, constants, s = example((2, 3), batch=(4, 2))
    D, eigenvalues = block_mean.inverse_root(diagonal, constants, s)
    inverses = block_mean.inverse(diagonal, constants, s)
    matrices = block_mean.dense(diagonal, constants, s)
    pair = block_mean.approximate(matrices, s)
    torch.testing.assert_close(pair, (diagonal, constants), **EXACT)
    for i in range(4):
        for j in range(2):
            one = (diagonal[i, j], constants[i, j], s)
            torch.testing.assert_close(D[i, j], block_mean.inverse_root(*one)[0], **EXACT)
            torch.testing.assert_close(inverses[i, j], block_mean.inverse(*one), **EXACT)
            assert torch.equal(matrices[i, j], block_mean.dense(*one))
    assert eigenvalues.shape == (4, 2, 2)
