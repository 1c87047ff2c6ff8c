"""The geometric mean of matrices: its definition and what it is known for."""

import pytest
import torch

from optimizers.linalg import geometric_mean
from tests.optimizers.linalg.spectra import batch, from_eigenvalues, logarithmic, relative_error


def by_definition(A, B):
    """A (A^-1 B)^(1/2), the square root by the eigenvectors of the non-symmetric A^-1 B."""
    values, vectors = torch.linalg.eig(torch.linalg.solve(A, B))
    root = (vectors * values.sqrt().unsqueeze(-2)) @ torch.linalg.inv(vectors)
    return A @ root.real


@pytest.fixture(params=[(), (3,), (2, 2)], ids=str)
def pair(request):
    return batch(*request.param, n=7), batch(*request.param, n=7, seed=1)


def mean(A, B):
    found = geometric_mean(A, B)
    assert not found.failed.any() and found.num_retries == 0
    return found.power


# Condition numbers of tens: round-off of float64 in each identity.
CLOSE = {"rtol": 1e-9, "atol": 1e-10}


def test_definition(pair):
    torch.testing.assert_close(mean(*pair), by_definition(*pair), **CLOSE)


def test_it_solves_the_riccati_equation(pair):
    A, B = pair
    M = mean(A, B)
    torch.testing.assert_close(M @ torch.linalg.solve(A, M), B, **CLOSE)


def test_means_of_a_matrix_with_itself_and_with_its_inverse(pair):
    A, _ = pair
    torch.testing.assert_close(mean(A, A), A, **CLOSE)
    eye = torch.eye(7, dtype=A.dtype).expand_as(A)
    torch.testing.assert_close(mean(A, torch.linalg.inv(A)), eye, **CLOSE)


def test_it_does_not_matter_which_comes_first(pair):
    A, B = pair
    M = mean(A, B)
    torch.testing.assert_close(M, mean(B, A), **CLOSE)
    torch.testing.assert_close(M, M.mT, **CLOSE)


def test_congruence(pair):
    A, B = pair
    C = batch(n=7, seed=2)[:, torch.randperm(7, generator=torch.Generator().manual_seed(0))]
    expected = C @ mean(A, B) @ C.T
    torch.testing.assert_close(mean(C @ A @ C.T, C @ B @ C.T), expected, **CLOSE)


def test_commuting_matrices_have_the_root_of_their_product():
    a, b = logarithmic(8, 1e4), logarithmic(8, 1e2).flip(0)
    found = mean(from_eigenvalues(a), from_eigenvalues(b))
    assert relative_error(found, from_eigenvalues((a * b).sqrt())) < 1e-10


def test_eigenvalues_are_those_of_the_quotient(pair):
    A, B = pair
    expected = torch.linalg.eigvals(torch.linalg.solve(A, B)).real.sort(-1).values
    torch.testing.assert_close(geometric_mean(A, B).eigenvalues, expected, **CLOSE)


def test_damping_dtypes_and_scales():
    A, B = batch(n=7), batch(n=7, seed=1)
    eye = torch.eye(7, dtype=torch.float64)
    found = geometric_mean(A.float(), B.float(), damping=0.1)
    expected = by_definition(A + 0.1 * eye, B + 0.1 * eye)
    assert found.power.dtype == torch.float32
    assert relative_error(found.power, expected) < 1e-5  # round-off of float32
    wide = geometric_mean(A.bfloat16().float(), B, damping=0.1, dtype=torch.float64)
    assert wide.power.dtype == torch.float32
    assert relative_error(mean(1e-20 * A, 1e20 * B), by_definition(A, B)) < 1e-10


def test_singular_and_not_finite():
    A = batch(4, n=3)
    B = A.clone()
    A[1] = 0
    A[2, 0, 0] = torch.nan
    B[3, 1, 1] = torch.inf
    found = geometric_mean(A, B)
    assert found.failed.tolist() == [False, True, True, True]
    torch.testing.assert_close(found.power[0], A[0], **CLOSE)
    singular = from_eigenvalues(torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64))
    root = geometric_mean(torch.eye(3, dtype=torch.float64), singular)
    # The zero eigenvalue comes out as 1e-17, its root as 1e-8.
    assert not root.failed and relative_error(root.power @ root.power, singular) < 1e-7
