"""Block means in numpy, the stored picture of a matrix, and the whitening that Fig. 1 draws."""

import base64

import numpy as np
import pytest
import torch

from analysis import block_means, matrices
from analysis.figures import bma_fig1
from analysis.load import Records
from optimizers.linalg import block_mean
from runners import measurements

SIZES = np.array([2, 1, 4])


def symmetric(seed=0, n=7):
    matrix = np.random.default_rng(seed).normal(size=(n, n))
    return matrix + matrix.T


def test_the_means_are_those_of_the_optimizers_kernel():
    matrix = symmetric()
    diagonal, constants = block_means.approximate(matrix, SIZES)
    sizes = torch.tensor(SIZES, dtype=torch.float64)
    theirs = block_mean.dense(*block_mean.approximate(torch.tensor(matrix), sizes), sizes)
    ours = np.add(*block_means.expand(diagonal, constants, SIZES))
    # Sums of at most 16 numbers of about 1 in float64.
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=1e-14)


def test_a_block_mean_matrix_is_its_own_approximation():
    diagonal, constants = np.array([1.0, 2.0, 3.0]), symmetric(n=3)
    constants[1, 1] = 0.0  # a block of one value has no off-diagonal entries
    matrix = np.add(*block_means.expand(diagonal, constants, SIZES))
    found = block_means.approximate(matrix, SIZES)
    np.testing.assert_allclose(found[0], diagonal, atol=1e-14)
    np.testing.assert_allclose(found[1], constants, atol=1e-14)


@pytest.fixture
def stored(tmp_path):
    """A matrix kept as the measurement keeps it."""
    matrix = symmetric(n=4)
    largest = np.abs(matrix).max()
    root = np.sign(matrix) * np.sqrt(np.abs(matrix) / largest)
    bytes_ = (127 * root).round().astype(np.int8)
    rows = [
        {"case": "tensor", "seed": 0, "name": "a", "size": 3, "layer": 1, "unit": 3},
        {"case": "tensor", "seed": 1, "name": "b", "size": 1, "layer": 1, "unit": 1},
    ]
    for i in (2, 0, 1, 3):  # the order of the rows is theirs, not the file's
        text = base64.b64encode(bytes_[i]).decode()
        rows.append({"case": "row", "seed": i, "value": float(largest), "text": text})
    measurements.write(tmp_path, block_means.MATRIX, "exact", rows, {})
    return matrix, Records([tmp_path])


def test_a_stored_matrix_comes_back(stored):
    matrix, records = stored
    found, tensors = block_means.fisher(records)
    # The root is rounded to 1/127 of the largest: its square is off by 2 halves of that at most.
    assert np.abs(found - matrix).max() <= np.abs(matrix).max() / 127
    assert block_means.sizes(tensors, "layer").tolist() == [3, 1]
    assert block_means.sizes(tensors, "unit").tolist() == [1, 1, 1, 1]


def test_a_table_of_matrices_gives_them_back():
    shown = {"a": symmetric(), "b": np.arange(4.0).reshape(2, 2)}
    data = matrices.table(shown)
    for panel, matrix in shown.items():
        assert np.array_equal(matrices.matrix_of(data, panel), matrix)


def test_whitening_turns_the_loss_into_half_the_squared_length():
    c = bma_fig1.COUPLING
    Q, T = np.array([[1, c], [c, 1]]), bma_fig1.whitening()
    np.testing.assert_allclose(T.T @ T, Q, atol=1e-15)
