"""Fixed-point iterations on a batch of matrices that converge at their own pace."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from optimizers.linalg.powers import identity_like

# Iterations between looks at which matrices are done: each look waits for the device. On the CPU
# there is nothing to wait for, and looking each time saves the products of those that are done.
LOOK_EVERY = 5
# An iteration that lets the error grow by more is undone and is the last: round-off has taken over.
MAX_GROWTH = 1.2


def iterate(
    advance: Callable[..., tuple[Tensor, ...]],
    state: tuple[Tensor, ...],
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Advance each matrix of a batch until its error is small or grows.

    A matrix that is done keeps its state while others go on, and leaves the batch at the next look,
    so the result does not depend on how often one looks, nor on the others but for round-off.

    Args:
        advance: takes the state of some matrices of the batch, returns their new state and error,
            shape (k,).
        state: tensors of shape (b, n, n); not modified.
        tolerance: error that ends the iteration.
        max_iterations: for each matrix.
    Returns:
        The last state that was kept and its error, infinite where no iteration was.
    """
    result = tuple(x.clone() for x in state)
    index = torch.arange(len(state[0]), device=state[0].device)
    error = torch.full(index.shape, torch.inf, dtype=state[0].dtype, device=index.device)
    errors, active = error.clone(), torch.ones_like(index, dtype=torch.bool)
    look_every = _look_every(index.device)
    for k in range(max_iterations):
        *new, new_error = advance(*state)
        # Written so that NaN counts as growth.
        kept = active & (new_error <= MAX_GROWTH * error)
        where = kept[:, None, None]
        state = tuple(torch.where(where, x, y) for x, y in zip(new, state, strict=True))
        error = torch.where(kept, new_error, error)
        active = kept & (error > tolerance)
        if (k + 1) % look_every == 0 and not active.all():
            _store(result, errors, index, state, error)
            index, error, state = index[active], error[active], tuple(x[active] for x in state)
            active = active[active]
            if not len(index):
                break
    _store(result, errors, index, state, error)
    return result, errors


def deviation(matrix: Tensor) -> Tensor:
    """Largest absolute entry of M - I, (..., n, n) to (...)."""
    return (matrix - identity_like(matrix)).abs().amax((-2, -1))


def _look_every(device: torch.device) -> int:
    return 1 if device.type == "cpu" else LOOK_EVERY


def _store(
    result: tuple[Tensor, ...],
    errors: Tensor,
    index: Tensor,
    state: tuple[Tensor, ...],
    error: Tensor,
) -> None:
    for whole, part in zip(result, state, strict=True):
        whole[index] = part
    errors[index] = error
