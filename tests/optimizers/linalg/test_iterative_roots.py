"""Coupled Newton and Newton-Schulz against matrices of known spectrum."""

import pytest
import torch

from optimizers.linalg import iteration as module
from optimizers.linalg import (
    power_by_coupled_newton,
    power_by_eigh,
    power_by_newton_schulz,
    residual,
)
from tests.optimizers.linalg.spectra import (
    batch,
    exact_power,
    from_eigenvalues,
    logarithmic,
    relative_error,
)

CASES = [
    *((power_by_coupled_newton, exponent) for exponent in (-1, -0.5, -1 / 3, -0.25, -1 / 6)),
    *((power_by_coupled_newton, exponent) for exponent in (1, 0.5, 0.25, 1 / 6)),
    *((power_by_newton_schulz, exponent) for exponent in (-0.5, 0.5)),
]
METHODS = [power_by_coupled_newton, power_by_newton_schulz]
# Condition numbers of a few hundreds lose three digits; bfloat16 rounds input and result by 2^-9.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 2e-4, torch.bfloat16: 3e-2}


@pytest.mark.parametrize(("method", "exponent"), CASES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_roots_of_batches(method, exponent, shape, dtype):
    matrix = batch(*shape, n=9, dtype=dtype)
    before = matrix.clone()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    power, eigenvalues, failed, num_retries = method(
        matrix, exponent, damping=0.01, tolerance=tolerance
    )
    assert torch.equal(matrix, before)
    assert power.shape == matrix.shape and power.dtype == dtype
    assert eigenvalues.shape == (*shape, 0)
    assert failed.shape == shape and not failed.any() and num_retries == 0
    expected = power_by_eigh(matrix.double(), exponent, damping=0.01).power
    for X, Y in zip(power.reshape(-1, 9, 9), expected.reshape(-1, 9, 9), strict=True):
        assert relative_error(X, Y) < TOLERANCES[dtype]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [-0.5, 0.5])
@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_scales(method, exponent, scale):
    lam = logarithmic(10, 1e3) * scale
    power = method(from_eigenvalues(lam), exponent)
    assert not power.failed
    # tolerance=1e-6 on |M - I| leaves that much in the root.
    assert relative_error(power.power, exact_power(lam, exponent)) < 1e-5


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize(("method", "exponent"), CASES)
def test_small_matrices(method, exponent, n):
    lam = torch.tensor([4.0, 9.0][:n], dtype=torch.float64)
    power = method(torch.diag(lam), exponent, tolerance=1e-10)
    torch.testing.assert_close(power.power, torch.diag(lam**exponent), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exponent", [-0.5, 0.5])
def test_matrices_of_a_batch_converge_at_their_own_pace(monkeypatch, method, exponent):
    kappas = [1e6, 1.0, 1e2, 1e4]
    matrix = torch.stack([from_eigenvalues(logarithmic(8, kappa)) for kappa in kappas])
    together = method(matrix, exponent).power
    for k in range(len(kappas)):
        alone = method(matrix[k], exponent).power
        # The same iterations; products of batches of another size round otherwise.
        torch.testing.assert_close(together[k], alone, rtol=1e-8, atol=1e-8 * float(alone.max()))
    # Looks further apart, as on a GPU, change nothing but which products are computed.
    monkeypatch.setattr(module, "_look_every", lambda device: 7)
    torch.testing.assert_close(method(matrix, exponent).power, together, rtol=1e-8, atol=1e-8)


def test_iteration_stops_at_tolerance_growth_and_limit():
    # Matrix 0 gets better all the time, matrix 1 worse at its third step, matrix 2 is NaN at once.
    errors = torch.tensor([[8, 4, 2, 1, 0.5, 0.25], [8, 4, 5, 1, 1, 1], [torch.nan] * 6])
    sizes = []

    def advance(num_steps, name):
        sizes.append(len(name))
        num_steps = num_steps + 1
        error = errors[name[:, 0, 0].long(), num_steps[:, 0, 0].long() - 1]
        return num_steps, name, error

    start = torch.zeros(3, 2, 2), torch.arange(3.0)[:, None, None].expand(3, 2, 2)
    state, error = module.iterate(advance, start, tolerance=0.3, max_iterations=20)
    assert state[0][:, 0, 0].tolist() == [6, 2, 0]  # the step that made it worse is undone
    assert state[1][:, 0, 0].tolist() == [0, 1, 2]
    assert error.tolist() == [0.25, 4, torch.inf]
    assert sizes == [3, 2, 2, 1, 1, 1]  # those that are done are no longer computed
    state, error = module.iterate(advance, start, tolerance=0.3, max_iterations=1)
    assert state[0][:, 0, 0].tolist() == [1, 1, 0] and error.tolist() == [8, 8, torch.inf]
    assert not start[0].any()


@pytest.mark.parametrize("method", METHODS)
def test_what_float32_cannot_do_is_retried_in_float64_and_counted(method):
    lam = logarithmic(50, 1e9)
    A = torch.stack([from_eigenvalues(lam), torch.eye(50, dtype=torch.float64)])
    once = method(A, -0.5, dtype=torch.float32, out_dtype=torch.float64, retry=False)
    assert once.failed.tolist() == [True, False] and once.num_retries == 0
    again = method(A, -0.5, dtype=torch.float32, out_dtype=torch.float64)
    assert again.num_retries == 1 and not again.failed.any()
    # The retry begins with the matrix as given. The condition number costs nine digits of float64,
    # and the tolerance is 1e-6.
    assert relative_error(again.power[0], exact_power(lam, -0.5)) < 1e-4
    assert residual(again.power, A, -0.5)[1] < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_failures_are_told_apart(method):
    matrix = batch(4, n=6)
    matrix[0, 1, 1] = torch.nan
    matrix[2] = 0
    power = method(matrix, -0.5)
    assert power.failed.tolist() == [True, False, True, False]
    assert relative_error(power.power[1], power_by_eigh(matrix[1], -0.5).power) < 1e-5


def test_square_root_by_newton_schulz_survives_float32():
    """Eigenvalues from 1e-10 to 1: the product of Y with its inverse is wrong, Y is right."""
    lam = logarithmic(100, 1e10)
    power = power_by_newton_schulz(from_eigenvalues(lam).float(), 0.5)
    assert not power.failed and power.num_retries == 0
    assert relative_error(power.power, exact_power(lam, 0.5)) < 1e-3


def test_ridge_is_a_share_of_the_largest_eigenvalue():
    lam = torch.tensor([0.0, 1.0, 50.0], dtype=torch.float64)
    power = power_by_coupled_newton(torch.diag(lam), -0.5, ridge=0.1, tolerance=1e-12)
    # 30 power iterations on a gap of 50 find the eigenvalue to round-off.
    torch.testing.assert_close(power.power, torch.diag((lam + 5) ** -0.5))


@pytest.mark.parametrize("method", METHODS)
def test_one_damping_for_each_matrix(method):
    matrix = batch(2, n=4)
    dampings = torch.tensor([0.1, 3.0], dtype=torch.float64)
    power = method(matrix, -0.5, damping=dampings).power
    expected = power_by_eigh(matrix, -0.5, damping=dampings).power
    torch.testing.assert_close(power, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("exponent", [0.0, 2.0, -0.4])
def test_exponents_they_cannot_take(exponent):
    with pytest.raises(ValueError, match="exponent must be 1/p or -1/p"):
        power_by_coupled_newton(torch.eye(2), exponent)
    with pytest.raises(ValueError, match="exponent must be 1/2 or -1/2"):
        power_by_newton_schulz(torch.eye(2), exponent)
