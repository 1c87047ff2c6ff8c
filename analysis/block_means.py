"""Block means of a matrix, and the Fisher matrix of which figures show them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from analysis.load import Records

MATRIX = "bma_fisher_matrix"


def fisher(records: Records) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the empirical Fisher matrix of the measurement `bma_fisher_matrix`, and its tensors.

    Returns:
        The matrix, shape (d, d): it was kept as one signed byte an entry, of its square root, so
        that an entry is known to 1/127 of the largest at worst. The tensors: `name`, `size` and
        the number of blocks in each partition (`layer`, `unit`, `group`), in the matrix's order.
    Raises:
        MissingRecordsError: if it was not measured.
    """
    rows = records.measurement(MATRIX)
    lines = rows[rows["case"] == "row"].sort_values("seed")
    bytes_ = [np.frombuffer(base64.b64decode(text), dtype=np.int8) for text in lines["text"]]
    root = np.stack(bytes_).astype(float) / 127
    matrix = np.sign(root) * root**2 * float(lines["value"].iloc[0])
    return matrix, rows[rows["case"] == "tensor"].sort_values("seed")


def sizes(tensors: pd.DataFrame, partition: str) -> np.ndarray:
    """Sizes of a partition's blocks, in the order of the matrix."""
    counts = tensors[partition].to_numpy(dtype=int)
    return np.repeat(tensors["size"].to_numpy(dtype=int) // counts, counts)


def approximate(matrix: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lambda, shape (L,), and B, (L, L), of the best approximation [Lu et al. 2018, eq. 15-16]."""
    indicator = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    sums = indicator.T @ matrix @ indicator
    traces = indicator.T @ np.diag(matrix)
    constants = sums / np.outer(sizes, sizes)
    within = (np.diag(sums) - traces) / np.maximum(sizes * (sizes - 1), 1)
    np.fill_diagonal(constants, within)
    return traces / sizes - within, constants


def expand(
    diagonal: np.ndarray, constants: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The diagonal expansion of Lambda and the full one of B, both (n, n) [definitions 1 and 2]."""
    indicator = np.repeat(np.eye(len(sizes)), sizes, axis=0)
    return np.diag(indicator @ diagonal), indicator @ constants @ indicator.T
