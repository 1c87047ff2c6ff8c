"""Checked reading of matrices from MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.data.store import DataError


def read_matrix(path: Path, key: str) -> np.ndarray:
    """Read one matrix of a MATLAB file (up to version 7; later ones are HDF5).

    Returns:
        The matrix in its own orientation, float32.
    Raises:
        DataError: if scipy or the file is missing, or the file is damaged, or has under `key` no
            finite numbers in two dimensions.
    """
    try:
        import scipy.io
    except ImportError as error:
        raise DataError(
            f"reading {path.name} needs scipy: pip install 'kappa-bench[mat]'"
        ) from error
    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        matrix = scipy.io.loadmat(path, variable_names=[key]).get(key)
        names = [name for name, _, _ in scipy.io.whosmat(path)] if matrix is None else []
    except NotImplementedError as error:
        raise DataError(f"{path} must be a MATLAB file up to version 7, not HDF5") from error
    # What scipy raises on a damaged file depends on where the damage is.
    except Exception as error:
        raise DataError(f"{path} is no whole MATLAB file: {error}") from error
    if matrix is None:
        found = ", ".join(names) or "nothing"
        raise DataError(f"{path} must hold a matrix {key}, got {found}")
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise DataError(f"{key} in {path} must be a matrix of numbers, got {matrix.dtype}")
    if matrix.size == 0:
        raise DataError(f"{key} in {path} is empty")
    matrix = matrix.astype(np.float32)
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise DataError(
            f"{key} in {path} must be finite, got {matrix[row, column]} in row {row + 1}, "
            f"column {column + 1}"
        )
    return matrix
