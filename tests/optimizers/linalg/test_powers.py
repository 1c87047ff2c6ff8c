"""Powers by eigendecomposition against matrices of known spectrum."""

import pytest
import torch

from optimizers.linalg import power_by_eigh, residual
from tests.optimizers.linalg.spectra import (
    basis,
    batch,
    exact_power,
    from_eigenvalues,
    logarithmic,
    relative_error,
)

# Round-off of a power of a well-conditioned matrix; bfloat16 rounds input and result by 2^-9.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 3e-2}


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3)])
@pytest.mark.parametrize("n", [1, 2, 9, 40])
@pytest.mark.parametrize("exponent", [-0.5, -1 / 6, 0.25, 1.0])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_powers_of_batches(shape, n, exponent, dtype):
    matrix = batch(*shape, n=n, dtype=dtype)
    before = matrix.clone()
    power, eigenvalues, failed, num_retries = power_by_eigh(matrix, exponent, damping=0.1)
    assert torch.equal(matrix, before)
    assert power.shape == matrix.shape and power.dtype == dtype
    assert eigenvalues.shape == (*shape, n)
    assert eigenvalues.dtype == torch.promote_types(dtype, torch.float32)
    assert failed.shape == shape and not failed.any() and num_retries == 0
    flat, flat_values = matrix.reshape(-1, n, n), eigenvalues.reshape(-1, n)
    for A, X, lam in zip(flat, power.reshape(-1, n, n), flat_values, strict=True):
        values, vectors = torch.linalg.eigh(A.double())
        assert relative_error(lam, values) < TOLERANCES[dtype]
        expected = vectors @ torch.diag((values + 0.1) ** exponent) @ vectors.T
        assert relative_error(X, expected) < TOLERANCES[dtype]


HARD = {
    "zero": torch.zeros(12, dtype=torch.float64),
    "rank one": torch.cat([torch.zeros(11), torch.ones(1)]).double(),
    "repeated": torch.cat([torch.full((6,), 2.0), torch.full((6,), 3.0)]).double(),
    "kappa 1e14": logarithmic(12, 1e14),
    "tiny": logarithmic(12, 1e3) * 1e-20,
    "huge": logarithmic(12, 1e3) * 1e20,
}


@pytest.mark.parametrize("spectrum", HARD)
@pytest.mark.parametrize("exponent", [-0.5, -0.25, 0.25, 0.5])
def test_hard_spectra_in_float64(spectrum, exponent):
    lam = HARD[spectrum]
    damping = 1e-6 * float(lam.max()) or 1e-6
    A = from_eigenvalues(lam)
    power, eigenvalues, failed, num_retries = power_by_eigh(A, exponent, damping=damping)
    assert not failed and num_retries == 0
    # An eigenvalue errs by 1e-16 of the largest, hence by 1e-10 of the damping.
    assert relative_error(power, exact_power(lam + damping, exponent)) < 1e-9
    assert (eigenvalues - lam).abs().max() <= 1e-14 * lam.max()


@pytest.mark.parametrize("spectrum", ["zero", "rank one"])
def test_singular_matrices_have_positive_powers_and_no_negative_ones(spectrum):
    lam = HARD[spectrum]
    A = from_eigenvalues(lam)
    root = power_by_eigh(A, 0.5)
    # Zero eigenvalues come out as 1e-17, the root of which is 3e-9.
    assert not root.failed and (root.power - A).abs().max() < 1e-8
    diagonal = torch.diag(lam)
    assert power_by_eigh(diagonal, -0.5).failed  # exact zeros: no pseudo-inverse
    raised = power_by_eigh(diagonal, -0.5, floor=1e-4)
    expected = torch.diag(lam.clamp(min=1e-4) ** -0.5)
    assert not raised.failed and relative_error(raised.power, expected) < 1e-14


def test_the_floor_acts_after_the_damping():
    lam = torch.tensor([-3.0, 0.5, 2.0], dtype=torch.float64)
    power = power_by_eigh(torch.diag(lam), -1.0, damping=1.0, floor=1.75).power
    expected = torch.tensor([1 / 1.75, 1 / 1.75, 1 / 3], dtype=torch.float64)
    torch.testing.assert_close(power, torch.diag(expected))


def test_one_exponent_and_one_damping_for_each_matrix():
    matrix = batch(2, 2, n=4)
    exponents = torch.tensor([[-0.5, 0.25], [1.0, -1.0]], dtype=torch.float64)
    dampings = torch.tensor([[0.0, 1.0], [2.0, 0.5]], dtype=torch.float64)
    power = power_by_eigh(matrix, exponents, damping=dampings).power
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        exponent, damping = float(exponents[i, j]), float(dampings[i, j])
        alone = power_by_eigh(matrix[i, j], exponent, damping=damping).power
        torch.testing.assert_close(power[i, j], alone, rtol=1e-12, atol=1e-12)


def test_matrices_that_are_not_finite_fail_alone_and_are_not_retried():
    matrix = batch(4, n=5, dtype=torch.float32)
    expected = power_by_eigh(matrix, -0.25)
    matrix[1, 2, 3], matrix[3, 0, 0] = torch.nan, torch.inf
    power, _, failed, num_retries = power_by_eigh(matrix, -0.25)
    assert failed.tolist() == [False, True, False, True] and num_retries == 0
    assert torch.equal(power[[0, 2]], expected.power[[0, 2]])


def test_the_larger_triangle_does_not_matter_more():
    A = batch(n=6)
    skew = torch.triu(torch.ones(6, 6, dtype=torch.float64), 1)
    expected = power_by_eigh(A, 0.5).power
    torch.testing.assert_close(power_by_eigh(A + skew - skew.T, 0.5).power, expected)


def test_round_off_below_zero_is_retried_in_float64_and_counted():
    """In float32 the smallest eigenvalue of 1e-8 comes out negative or not, by chance of 1e-7."""
    lam = logarithmic(30, 1e8)
    A = torch.stack([from_eigenvalues(lam, seed) for seed in range(8)]).float()
    values = torch.linalg.eigh(A)[0][:, 0]
    wide = torch.linalg.eigh(A.double())[0][:, 0]
    mended = (values <= 0) & (wide > 0)
    assert mended.any()  # or this tests nothing
    power, eigenvalues, failed, num_retries = power_by_eigh(A, -0.25)
    assert num_retries == int((values <= 0).sum())
    assert torch.equal(failed, wide <= 0)
    assert (eigenvalues[mended][:, 0] > 0).all()
    assert power[mended].isfinite().all()
    one = int(mended.nonzero()[0])
    alone = power_by_eigh(A[one], -0.25)
    assert alone.num_retries == 1 and torch.equal(alone.power, power[one])


def test_failure_to_converge_is_retried_and_counted(monkeypatch):
    original = torch.linalg.eigh

    def fail(matrix):
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("no convergence")
        return original(matrix)

    matrix = batch(3, n=5, dtype=torch.float32)
    expected = power_by_eigh(matrix, -0.5)
    monkeypatch.setattr(torch.linalg, "eigh", fail)
    power, _, failed, num_retries = power_by_eigh(matrix, -0.5)
    assert num_retries == 3 and not failed.any()
    torch.testing.assert_close(power, expected.power, rtol=1e-4, atol=1e-5)


def test_what_overflows_the_result_fails():
    A = torch.diag(torch.tensor([1e-30, 1.0], dtype=torch.float64))
    # (1e-30)^-2 = 1e60 is a float64 and no float32.
    assert not power_by_eigh(A, -2.0).failed
    assert power_by_eigh(A, -2.0, out_dtype=torch.float32).failed


@pytest.mark.parametrize("floor", [1e-8, 1e-12])
@pytest.mark.parametrize("seed", range(3))
def test_positive_roots_survive_float32_and_inverse_ones_do_not(floor, seed):
    """n = 100, eigenvalues from 1e-10 to 1, equally spaced in the logarithm."""
    lam = logarithmic(100, 1e10)
    A = from_eigenvalues(lam, seed)
    errors, by_precision = {}, {}
    for exponent in (-0.25, 0.25):
        narrow = power_by_eigh(A.float(), exponent, floor=floor)
        assert narrow.num_retries == 0
        errors[exponent] = relative_error(narrow.power, exact_power(lam, exponent, seed))
        # What the floor does is left out, 0.53 of the inverse root's error with a floor of 1e-8.
        floored = exact_power(lam.clamp(min=floor), exponent, seed)
        by_precision[exponent] = relative_error(narrow.power, floored)
        # The smallest eigenvalue, 1e-10, errs by 1e-16 in float64, that is by 1e-6 of itself.
        wide = power_by_eigh(A, exponent, floor=floor).power
        assert relative_error(wide, floored) < 1e-6
    assert errors[-0.25] > 0.3 and by_precision[-0.25] > 0.1
    assert errors[0.25] < 0.02 and by_precision[0.25] < 0.02


@pytest.mark.parametrize("exponent", [-0.5, -1 / 6, 0.25, -0.4, 2 / 3, 1.0])
def test_residual_of_exact_and_of_scaled_powers(exponent):
    A, damping = batch(2, 3, n=7), 0.3
    power = power_by_eigh(A, exponent, damping=damping).power
    found = residual(power, A, exponent, damping=damping)
    assert found.shape == (2, 3) and found.max() < 1e-11
    # X scaled by 1 + h: relative error of X^q is (1 + h)^q - 1.
    expected = 1.01 ** (1 / abs(exponent)) - 1
    found = residual(1.01 * power, A, exponent, damping=damping)
    torch.testing.assert_close(found, torch.full_like(found, expected))


def test_residual_of_float32_and_of_one_damping_each():
    A = batch(2, n=7)
    dampings = torch.tensor([0.1, 5.0])
    power = power_by_eigh(A, -0.5, damping=dampings).power.float()
    assert 1e-9 < residual(power, A, -0.5, damping=dampings).max() < 1e-5  # rounding to float32
    assert residual(power, A, -0.5, damping=0.1)[1] > 0.5
    assert residual(torch.zeros(3, 3), torch.zeros(3, 3), 0.5) == 0


def test_powers_are_symmetric_and_positive():
    Q = basis(20)
    A = ((Q * logarithmic(20, 1e12)) @ Q.T).float()
    power = power_by_eigh(A, 0.25).power
    assert (power - power.T).abs().max() < 1e-6
    assert torch.linalg.eigvalsh(power.double())[0] > -1e-7
