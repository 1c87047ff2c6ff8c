"""Norms by power iteration against singular value decompositions."""

import pytest
import torch

from optimizers.linalg import (
    frobenius_norm,
    product_spectral_norm,
    spectral_norm,
    spectral_norm_of,
    trace,
)
from optimizers.linalg.norms import starting_vector
from tests.optimizers.linalg.spectra import batch, from_eigenvalues, logarithmic


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
@pytest.mark.parametrize("n", [1, 2, 9, 60])
def test_norms_of_batches(shape, n):
    A, L = batch(*shape, n=n), batch(*shape, n=n, seed=1)
    L = torch.linalg.inv(L)
    L = (L + L.mT) / 2
    exact = torch.linalg.matrix_norm(A, 2)
    assert spectral_norm(A, 3).shape == shape
    torch.testing.assert_close(spectral_norm(A, 2000), exact)
    torch.testing.assert_close(
        product_spectral_norm(A, L, 2000), torch.linalg.matrix_norm(A @ L, 2)
    )
    torch.testing.assert_close(frobenius_norm(A), torch.linalg.matrix_norm(A))
    torch.testing.assert_close(frobenius_norm(A[..., :1]), torch.linalg.matrix_norm(A[..., :1]))
    torch.testing.assert_close(trace(A), A.flatten(-2)[..., :: n + 1].sum(-1))


def test_estimates_are_from_below_and_grow():
    A = torch.stack([from_eigenvalues(logarithmic(40, 1e3), seed) for seed in range(20)])
    exact = torch.ones(20, dtype=torch.float64)
    last = torch.zeros(20, dtype=torch.float64)
    for num_iterations in (0, 1, 5, 10, 50):
        found = spectral_norm(A, num_iterations)
        assert (found <= exact * (1 + 1e-12)).all() and (found >= last * (1 - 1e-12)).all()
        last = found
    assert spectral_norm(A).mean() > 0.95  # ten iterations, a gap of 16 %
    assert last.min() > 1 - 1e-5  # the second eigenvalue's share has fallen by 0.84^100


@pytest.mark.parametrize(
    ("dtype", "scale"),
    # Squares of 1e-25 are not numbers of float32; those of 1e-300 none of float64.
    [
        (torch.float32, 1e-25),
        (torch.float32, 1e25),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
    ],
)
def test_scales_whose_squares_are_out_of_range(dtype, scale):
    A = batch(3, n=12)
    exact = torch.linalg.matrix_norm(A, 2)
    scaled = (A.to(dtype) * scale).to(dtype)
    inverse = (torch.eye(12, dtype=torch.float64) / scale).to(dtype)
    found = spectral_norm(scaled, 300).double() / scale
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)
    found = frobenius_norm(scaled).double() / scale
    torch.testing.assert_close(found, torch.linalg.matrix_norm(A), rtol=1e-5, atol=0)
    found = product_spectral_norm(scaled, inverse, 300).double()
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)


def test_zero_and_not_finite():
    zero = torch.zeros(2, 3, 3)
    for norm in (spectral_norm(zero), product_spectral_norm(zero, zero), frobenius_norm(zero)):
        assert norm.tolist() == [0, 0]
    zero[1, 0, 0] = torch.nan
    assert spectral_norm(zero).isnan().tolist() == [False, True]


def test_a_linear_map_stands_for_a_matrix():
    generator = torch.Generator().manual_seed(0)
    F = torch.randn(4, 30, 5, generator=generator, dtype=torch.float64)
    start = starting_vector(30, dtype=torch.float64).expand(4, 30, 1)
    found = spectral_norm_of(lambda v: F @ (F.mT @ v), start, 1000)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(F, 2) ** 2)
    start = starting_vector(5, dtype=torch.float64).expand(4, 5, 1)
    found = spectral_norm_of(lambda v: F @ v, start, 1000, transposed=lambda w: F.mT @ w)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(F, 2))


@pytest.mark.parametrize("n", [2, 3, 16, 48, 128, 1024])
def test_the_start_is_near_no_axis_and_no_constant(n):
    """Leading vectors of sums of blocks, of means and of differences: none is orthogonal to it."""
    start = starting_vector(n, dtype=torch.float64)[:, 0]
    start = start / start.norm()
    assert start.abs().min() > 1e-4 / n
    assert start.sum().abs() > 1e-2
    assert (start * (-1.0) ** torch.arange(n)).sum().abs() > 1e-2
    blocks = torch.zeros(n, n, dtype=torch.float64)
    blocks[0, 0], blocks[1:, 1:] = 1, 2 / (n - 1)
    assert spectral_norm(blocks, 60) == pytest.approx(2, rel=1e-6)
