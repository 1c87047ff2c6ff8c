"""Symmetric eigendecomposition of small matrices."""

from __future__ import annotations

import torch
from torch import Tensor

# Up to this size a second thread costs more than it gives: n = 100 takes 0.6 ms on one thread and
# 2 ms on two, or hundreds where other processes share the cores and each barrier waits for them.
MAX_SINGLE_THREADED = 256


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,), ascending, and eigenvectors (n, n) of a symmetric matrix.

    As `torch.linalg.eigh`, on one thread if n <= 256 on the CPU; the number of threads is set back.

    Raises:
        torch.linalg.LinAlgError: if the decomposition does not converge.
    """
    num_threads = torch.get_num_threads()
    if num_threads == 1 or len(matrix) > MAX_SINGLE_THREADED or matrix.device.type != "cpu":
        return torch.linalg.eigh(matrix)
    torch.set_num_threads(1)
    try:
        return torch.linalg.eigh(matrix)
    finally:
        torch.set_num_threads(num_threads)
