"""Batches of decompositions: divided over threads without a trace, retried where they fail."""

import sys

import pytest
import torch

from optimizers.linalg import eigh, eigh_batched
from optimizers.linalg.eigh import eigh_retried
from tests.optimizers.linalg.spectra import batch

# The package exports a function of the module's name.
module = sys.modules["optimizers.linalg.eigh"]


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2


# 9 and 27: matrices that do not begin at aligned addresses; 130: longer than a cache line's worth.
@pytest.mark.parametrize("n", [1, 9, 27, 64, 130])
@pytest.mark.parametrize("shape", [(2,), (3,), (5, 7), (40,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_divided_batches_are_bit_for_bit_those_of_one_thread(
    monkeypatch, two_threads, n, shape, dtype
):
    if n == 130 and shape == (40,):
        shape = (6,)  # seconds
    matrix = batch(*shape, n=n, dtype=dtype)
    torch.set_num_threads(1)
    expected = torch.linalg.eigh(matrix)
    torch.set_num_threads(2)
    monkeypatch.setattr(module, "MIN_DIVIDED_WORK", 0)
    values, vectors = eigh_batched(matrix)
    assert torch.equal(values, expected[0]) and torch.equal(vectors, expected[1])


def test_each_part_runs_on_one_thread_and_large_batches_are_divided(monkeypatch, two_threads):
    sizes = []

    def spy(matrix):
        sizes.append((len(matrix), torch.get_num_threads()))
        return original(matrix)

    original = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", spy)
    eigh_batched(batch(32, n=64))
    assert sorted(sizes) == [(16, 1), (16, 1)]
    sizes.clear()
    eigh_batched(batch(2, n=16))
    assert sizes == [(2, 1)]


def test_the_number_of_threads_is_set_back_after_an_error(monkeypatch, two_threads):
    monkeypatch.setattr(module, "MIN_DIVIDED_WORK", 0)
    with pytest.raises(RuntimeError):
        eigh_batched(torch.zeros(4, 3, 2))
    assert torch.get_num_threads() == 2


def test_an_error_in_any_part_is_raised(monkeypatch, two_threads):
    def fail(matrix):
        if matrix[-1, 0, 0] == 7:
            raise torch.linalg.LinAlgError("no convergence")
        return original(matrix)

    original = torch.linalg.eigh
    monkeypatch.setattr(module, "MIN_DIVIDED_WORK", 0)
    monkeypatch.setattr(torch.linalg, "eigh", fail)
    matrix = batch(4, n=4)
    matrix[-1] = 7 * torch.eye(4)
    with pytest.raises(torch.linalg.LinAlgError):
        eigh_batched(matrix)
    assert torch.get_num_threads() == 2


def test_empty_batch():
    values, vectors = eigh_batched(torch.zeros(0, 3, 3))
    assert values.shape == (0, 3) and vectors.shape == (0, 3, 3)


def fail_below(monkeypatch, dtypes, which=None):
    """Let the decomposition of batches, and of matrix `which`, raise in the given dtypes."""
    original = torch.linalg.eigh

    def eigh(matrix):
        alone = matrix.ndim == 2
        hit = which is None or not alone or torch.equal(matrix.double(), which.double())
        if matrix.dtype in dtypes and hit:
            raise torch.linalg.LinAlgError("no convergence")
        return original(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", eigh)


def test_only_the_matrix_that_fails_is_done_in_float64(monkeypatch):
    matrix = batch(2, 3, n=5, dtype=torch.float32)
    expected = [eigh(single) for single in matrix.flatten(0, 1)]
    fail_below(monkeypatch, {torch.float32}, which=matrix[1, 0])
    values, vectors, num_retries = eigh_retried(matrix)
    assert num_retries == 1
    assert values.shape == (2, 3, 5) and values.dtype == vectors.dtype == torch.float32
    for k, (single_values, single_vectors) in enumerate(expected):
        # Round-off of float32 on eigenvalues up to about 3; the others are the same computation.
        tolerance = 1e-5 if k == 3 else 0
        assert (values.flatten(0, 1)[k] - single_values).abs().max() <= tolerance
        if k != 3:
            assert torch.equal(vectors.flatten(0, 1)[k], single_vectors)


def test_what_fails_in_float64_too_is_nan(monkeypatch):
    matrix = batch(3, n=4, dtype=torch.float32)
    fail_below(monkeypatch, {torch.float32, torch.float64}, which=matrix[2])
    values, vectors, num_retries = eigh_retried(matrix)
    assert num_retries == 1
    assert values[2].isnan().all() and vectors[2].isnan().all()
    assert values[:2].isfinite().all() and vectors[:2].isfinite().all()
