"""Symmetric eigendecomposition of one small matrix and of a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Result = TypeVar("Result")

# Up to this size a second thread costs more than it gives: n = 100 takes 0.6 ms on one thread and
# 2 ms on two, or hundreds where other processes share the cores and each barrier waits for them.
MAX_SINGLE_THREADED = 256

# A batch is divided over threads from this much `work` on, or 5 ms: below it a thread saves little,
# and where others share the cores it waits for its turn for longer. The 32 in `work` stands for
# what a small matrix costs beyond n^3. 16 matrices of n = 128 take 9.2 ms on one
# thread and 5.3 on two.
MIN_DIVIDED_WORK = 8_000_000
# torch aligns its memory to so many bytes, and BLAS may sum in an order that depends on alignment.
ALIGNMENT = 64


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (n,), ascending, and eigenvectors (n, n) of a symmetric matrix.

    As `torch.linalg.eigh`, on one thread if n <= 256 on the CPU; the number of threads is set back.

    Raises:
        torch.linalg.LinAlgError: if the decomposition does not converge.
    """
    if len(matrix) > MAX_SINGLE_THREADED or matrix.device.type != "cpu":
        return torch.linalg.eigh(matrix)
    with threads(1):
        return torch.linalg.eigh(matrix)


def eigh_batched(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (..., n), ascending, and eigenvectors (..., n, n) of symmetric matrices.

    As `torch.linalg.eigh`, which takes the matrices of a batch one after another; here a batch on
    the CPU is divided over the threads that torch may use, each of which runs LAPACK on one thread.
    The results are bit for bit those of one thread, and the number of threads is set back.

    Raises:
        torch.linalg.LinAlgError: if a decomposition does not converge.
    """
    num_threads, n = torch.get_num_threads(), matrix.shape[-1]
    batch = matrix.shape[:-2].numel()
    if matrix.device.type != "cpu" or (batch < 2 and n > MAX_SINGLE_THREADED):
        return torch.linalg.eigh(matrix)
    num_parts = num_threads if work(batch, n) >= MIN_DIVIDED_WORK else 1
    if num_parts == 1 or batch < 2:
        with threads(1):
            return torch.linalg.eigh(matrix)
    parts = matrix.reshape(batch, n, n).split(_part_size(matrix, batch, num_parts))
    results = map_on_threads(torch.linalg.eigh, parts)
    values, vectors = (torch.cat(pieces) for pieces in zip(*results, strict=True))
    return values.reshape(matrix.shape[:-1]), vectors.reshape(matrix.shape)


def work(batch: int, n: int) -> int:
    """A measure of what decomposing `batch` matrices takes; the unit is about 0.6 ns."""
    return batch * n * n * (n + 32)


def map_on_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply a function to items of work on the CPU: each on one of torch's threads, alone.

    The results do not depend on the number of threads, which is set back.
    """
    num_workers = min(torch.get_num_threads(), len(items))
    with threads(1):
        if num_workers <= 1:
            return [function(item) for item in items]
        # Made for this call: a pool that outlives it would be broken in a forked process.
        with ThreadPoolExecutor(num_workers, "linalg", torch.set_num_threads, (1,)) as pool:
            return list(pool.map(function, items))


def eigh_retried(matrix: Tensor) -> tuple[Tensor, Tensor, int]:
    """`eigh_batched`; where it raises, one by one, and what still fails in float64 on the CPU.

    Returns:
        Eigenvalues and eigenvectors, NaN for a matrix with which all fail, in the dtype of
        `matrix`, and the number of matrices done in float64.
    """
    try:
        return *eigh_batched(matrix), 0
    except torch.linalg.LinAlgError:
        pass
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    values, vectors = torch.full_like(flat[..., 0], torch.nan), torch.full_like(flat, torch.nan)
    num_retries = 0
    for k, single in enumerate(flat):
        try:
            values[k], vectors[k] = eigh_batched(single)
        except torch.linalg.LinAlgError:
            num_retries += 1
            _retry_on_host(single, values[k], vectors[k])
    return values.reshape(matrix.shape[:-1]), vectors.reshape(matrix.shape), num_retries


def _retry_on_host(matrix: Tensor, values: Tensor, vectors: Tensor) -> None:
    """Write the float64 decomposition into `values` and `vectors`, or leave them as they are."""
    try:
        wide = eigh_batched(matrix.double().cpu())
    except torch.linalg.LinAlgError:
        return
    values.copy_(wide[0])
    vectors.copy_(wide[1])


def _part_size(matrix: Tensor, batch: int, num_parts: int) -> int:
    """Matrices in a part, such that each has the alignment it would have in the whole batch."""
    num_bytes = matrix.shape[-1] ** 2 * matrix.element_size()
    grain = ALIGNMENT // math.gcd(ALIGNMENT, num_bytes)
    return math.ceil(batch / num_parts / grain) * grain


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Let torch use so many threads inside; the number is set back."""
    before = torch.get_num_threads()
    if before == number:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
