"""Powers from an older basis: right to first order, decomposed anew where that is not enough."""

import pytest
import torch

from optimizers.linalg import power_by_eigh, power_by_warm_start
from tests.optimizers.linalg.spectra import (
    basis,
    batch,
    exact_power,
    from_eigenvalues,
    logarithmic,
    relative_error,
)


def changed(A, size, seed=5):
    """A^(1/2) (I + size N) A^(1/2) with symmetric N of norm 1: a relative change of `size`."""
    N = batch(*A.shape[:-2], n=A.shape[-1], seed=seed)
    N = N - N.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None] * torch.eye(N.shape[-1])
    N = N / torch.linalg.matrix_norm(N, 2)[..., None, None]
    values, vectors = torch.linalg.eigh(A)
    half = vectors * values.sqrt().unsqueeze(-2)
    A = half @ (torch.eye(N.shape[-1], dtype=A.dtype) + size * N) @ half.mT
    return (A + A.mT) / 2


@pytest.mark.parametrize("exponent", [-0.5, -1 / 6, 0.25, 1.0])
def test_without_a_basis_it_is_the_decomposition(exponent):
    A = batch(2, 3, n=6)
    power, Q, num_decomposed = power_by_warm_start(A, exponent, None, damping=0.1)
    expected = power_by_eigh(A, exponent, damping=0.1)
    assert torch.equal(power.power, expected.power)
    assert torch.equal(power.eigenvalues, expected.eigenvalues)
    assert num_decomposed == 6
    torch.testing.assert_close(Q.mT @ Q, torch.eye(6, dtype=A.dtype).expand_as(A))
    again = power_by_warm_start(A, exponent, Q, damping=0.1)
    assert again.num_decomposed == 0 and again.basis is Q
    torch.testing.assert_close(again.power.power, expected.power)
    torch.testing.assert_close(again.power.eigenvalues, expected.eigenvalues)


@pytest.mark.parametrize("exponent", [-0.5, -1 / 6, 0.25])
@pytest.mark.parametrize("spectrum", ["spread", "repeated"])
def test_the_error_is_of_second_order(exponent, spectrum):
    lam = logarithmic(16, 1e4)
    if spectrum == "repeated":  # no basis of an eigenspace is better than another
        lam = torch.cat([torch.full((8,), 1.0), torch.full((8,), 1e-3)]).double()
    A = from_eigenvalues(lam)
    Q = power_by_warm_start(A, exponent, None).basis
    errors = []
    for size in (1e-2, 1e-3):
        B = changed(A, size)
        found = power_by_warm_start(B, exponent, Q)
        assert found.num_decomposed == 0
        expected = power_by_eigh(B, exponent).power
        errors.append(relative_error(found.power.power, expected))
        assert relative_error(power_by_eigh(A, exponent).power, expected) > 20 * errors[-1]
    assert errors[0] < 1e-4
    assert errors[1] < 0.015 * errors[0]


def test_only_what_changed_too_much_is_decomposed_and_only_its_basis_renewed():
    A = batch(3, n=8)
    Q = power_by_warm_start(A, -0.25, None).basis
    B = torch.stack([A[0], changed(A[1], 0.9), A[2]])
    before = Q.clone()
    power, renewed, num_decomposed = power_by_warm_start(B, -0.25, Q)
    expected = power_by_eigh(B, -0.25)
    assert num_decomposed == 1 and torch.equal(Q, before)
    torch.testing.assert_close(power.power, expected.power)
    torch.testing.assert_close(power.eigenvalues, expected.eigenvalues)
    assert torch.equal(renewed[[0, 2]], Q[[0, 2]]) and not torch.equal(renewed[1], Q[1])
    assert power_by_warm_start(B, -0.25, renewed).num_decomposed == 0


def test_tolerance_bounds_the_off_diagonal_part():
    A = torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64))
    Q = torch.eye(2, dtype=torch.float64)
    B = A + 0.2 * (1 - Q)  # |E|_F = sqrt(2) 0.2 / sqrt(4)
    assert power_by_warm_start(B, -0.5, Q, tolerance=0.142).num_decomposed == 0
    assert power_by_warm_start(B, -0.5, Q, tolerance=0.141).num_decomposed == 1
    # Damping makes the change smaller: sqrt(2) 0.2 / sqrt(12 * 9).
    assert power_by_warm_start(B, -0.5, Q, tolerance=0.03, damping=8.0).num_decomposed == 0


def test_one_exponent_damping_and_a_floor():
    A = batch(2, n=5)
    exponents = torch.tensor([-0.5, 0.25], dtype=torch.float64)
    dampings = torch.tensor([0.1, 2.0], dtype=torch.float64)
    Q = power_by_warm_start(A, exponents, None, damping=dampings).basis
    B = changed(A, 1e-3)
    found = power_by_warm_start(B, exponents, Q, damping=dampings)
    assert found.num_decomposed == 0
    expected = power_by_eigh(B, exponents, damping=dampings).power
    torch.testing.assert_close(found.power.power, expected, rtol=1e-5, atol=1e-5)
    lam = torch.tensor([1e-9, 1e-8, 1.0, 2.0], dtype=torch.float64)
    found = power_by_warm_start(from_eigenvalues(lam), -0.5, basis(4), floor=0.01)
    assert found.num_decomposed == 0
    assert relative_error(found.power.power, exact_power(lam.clamp(min=0.01), -0.5)) < 1e-7


def test_dtypes():
    A = batch(2, n=5)
    Q = power_by_warm_start(A.float(), -0.25, None).basis
    assert Q.dtype == torch.float32
    found = power_by_warm_start(A.bfloat16(), -0.25, Q)
    assert found.power.power.dtype == torch.bfloat16 and found.basis.dtype == torch.float32
    found = power_by_warm_start(A.float(), -0.25, Q, out_dtype=torch.float64)
    assert found.num_decomposed == 0
    # Round-off of float32.
    assert relative_error(found.power.power, power_by_eigh(A, -0.25).power) < 1e-5


def test_hard_input_is_decomposed_and_fails_alone():
    A = batch(4, n=4)
    Q = power_by_warm_start(A, -0.5, None).basis
    B = A.clone()
    B[0, 1, 1] = torch.nan
    B[1] = 0
    B[2] = 1e-20 * torch.eye(4)
    found = power_by_warm_start(B, -0.5, Q)
    assert found.power.failed.tolist() == [True, True, False, False]
    # The zero matrix and the one with NaN; a multiple of the identity is diagonal in any basis.
    assert found.num_decomposed == 2
    eye = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(1e-10 * found.power.power[2], eye)
