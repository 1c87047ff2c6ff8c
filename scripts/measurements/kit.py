"""What measurements share: random cases, errors, floating-point operations, timing in turns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

# ---------------------------------------------------------------- random cases


def cases(count: int, first: int = 0) -> Iterator[tuple[int, torch.Generator]]:
    """Yield (seed, generator on the CPU seeded with it) for `count` seeds from `first` on."""
    for seed in range(first, first + count):
        yield seed, torch.Generator().manual_seed(seed)


def gaussian(*shape: int, generator: torch.Generator, dtype=torch.float64) -> Tensor:
    """Independent standard normal numbers; the same ones in every dtype, rounded."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def orthogonal(n: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal matrix, shape (n, n), float64, uniform (Haar) [Mezzadri 2007]."""
    q, r = torch.linalg.qr(gaussian(n, n, generator=generator))
    return q * torch.sign(torch.diagonal(r))


def random_spd(n: int, condition: float, generator: torch.Generator) -> Tensor:
    """A symmetric positive definite matrix, shape (n, n), float64, of a given condition number.

    Its eigenvalues fall geometrically from 1 to 1/condition, its eigenvectors are random.
    """
    exponents = torch.linspace(0, -math.log10(condition), n, dtype=torch.float64)
    q = orthogonal(n, generator)
    matrix = (q * 10**exponents) @ q.mT
    return (matrix + matrix.mT) / 2


# ---------------------------------------------------------------- float64 references and errors


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part, (A + A') / 2, shape (..., n, n)."""
    return (matrix + matrix.mT) / 2


def matrix_power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive definite matrix by a dense float64 eigendecomposition."""
    values, vectors = torch.linalg.eigh(symmetric(matrix.double()))
    return (vectors * values**exponent) @ vectors.mT


def least_eigenvalue(matrix: Tensor) -> float:
    """Least eigenvalue of a symmetric matrix: >= 0 says that it is positive semi-definite."""
    return float(torch.linalg.eigvalsh(symmetric(matrix.double()))[0])


def largest_eigenvalue(matrix: Tensor) -> float:
    """Largest eigenvalue of a symmetric matrix."""
    return float(torch.linalg.eigvalsh(symmetric(matrix.double()))[-1])


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Frobenius norm of the difference over that of the reference, in float64.

    A reference of zeros gives the norm of the value itself; what is not finite gives inf.
    """
    value, reference = value.detach().double(), reference.detach().double()
    error = float(torch.linalg.vector_norm(value - reference))
    scale = float(torch.linalg.vector_norm(reference))
    if not math.isfinite(error):
        return math.inf
    return error / scale if scale > 0 else error


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of log y on log x: the exponent of a power law."""
    pairs = torch.tensor([list(x), list(y)], dtype=torch.float64).log()
    x_log, y_log = pairs - pairs.mean(dim=1, keepdim=True)
    return float((x_log * y_log).sum() / (x_log * x_log).sum())


def steps(
    make: Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer],
    start: Sequence[Tensor],
    gradients: Sequence[Sequence[Tensor]],
) -> list[list[Tensor]]:
    """Feed given gradients to an optimizer.

    Args:
        make: builds it over a list of parameters.
        start: the parameters' values at the start; not modified.
        gradients: one list of gradients a step.
    Returns:
        The parameters' values after each step, copied.
    """
    parameters = [torch.nn.Parameter(value.detach().clone()) for value in start]
    optimizer = make(parameters)
    visited = []
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = gradient.detach().clone()
        optimizer.step()
        visited.append([parameter.detach().clone() for parameter in parameters])
    return visited


# ---------------------------------------------------------------- operations


def flops(function: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call.

    By torch's counter: a multiplication and an addition are two. Decompositions, inverses and
    everything element by element count nothing.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


# ---------------------------------------------------------------- seconds


def in_turns(
    functions: Mapping[str, Callable[[], Any]],
    turns: int,
    warmup: int = 1,
    calls: int = 1,
    synchronize: Callable[[], None] | None = None,
    **labels: Any,
) -> list[dict[str, Any]]:
    """Time functions against each other: every turn calls each of them once, one after another.

    What disturbs the machine for a while disturbs them all, so rows of one turn are paired. The
    order rotates from turn to turn, so that none always follows the same one.

    Args:
        functions: case -> function without arguments.
        turns: rows of each case.
        warmup: turns before the first that counts.
        calls: calls in a turn, for functions of microseconds; a row has the seconds of one.
        synchronize: waits for the device's queue; None on a CPU.
        labels: further columns, the same in every row.
    Returns:
        Rows of `case`, `seed` (the turn), `value` (seconds a call) and the labels.
    """
    wait = synchronize or (lambda: None)
    names, rows = list(functions), []
    for turn in range(-warmup, turns):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            function = functions[name]
            wait()
            start = perf_counter()
            for _ in range(calls):
                function()
            wait()
            seconds = (perf_counter() - start) / calls
            if turn >= 0:
                rows.append({"case": name, "seed": turn, "value": seconds, **labels})
    return rows
