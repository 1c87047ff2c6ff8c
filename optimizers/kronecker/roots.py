"""Roots of the factors of many buckets: when they are due, and all of one size at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optimizers.linalg.coupled_newton import power_by_coupled_newton
from optimizers.linalg.eigh import MIN_DIVIDED_WORK, map_on_threads, work
from optimizers.linalg.powers import Power, power_by_eigh

# `root_step` of a parameter whose roots were never computed: they are identities.
NO_ROOT = -1
# Of a batch on the CPU, in units of `work`: 8 factors of 128, which with all that is made of them
# stay in a core's cache.
BATCH_WORK = 22_000_000


class RootJob(NamedTuple):
    """Factors of one mode of one bucket whose roots are wanted.

    Attributes:
        state: of the bucket; `root_<mode>` and `eigenvalues_<mode>` are renewed in it.
        mode: which factor.
        exponent: of the power, signed.
        rows: those wanted; a range where they are contiguous.
    """

    state: dict[str, Any]
    mode: int
    exponent: float
    rows: range | list[int]

    @property
    def size(self) -> int:
        return self.state[f"factor_{self.mode}"].shape[-1]

    @property
    def where(self) -> slice | list[int]:
        """Index of the rows: a slice, which copies nothing, where they are a range."""
        rows = self.rows
        return slice(rows.start, rows.stop) if isinstance(rows, range) else rows


def positions_due(
    options: dict[str, Any], active: Sequence[int], root_steps: Sequence[int], step: int
) -> list[int]:
    """Positions, among the active, of parameters whose roots are computed in this step.

    from_start: at the first preconditioned step and every `update_freq` from there; a parameter
    that comes later gets its first roots at once. from_first: the same from the first step on.
    multiples: when update_freq divides the step.
    """
    if options["root_schedule"] == "multiples":
        return list(active) if step % options["update_freq"] == 0 else []
    start = 1 if options["root_schedule"] == "from_first" else max(options["start_step"], 1)
    if step < start:
        return []
    if (step - start) % options["update_freq"] == 0:
        return list(active)
    return [p for p, last in zip(active, root_steps, strict=True) if last == NO_ROOT]


def compute_roots(
    jobs: Iterable[RootJob], power: Callable[[Tensor, float], Power], dtype: torch.dtype
) -> int:
    """Renew the roots of all jobs; those of equal size and exponent are batched.

    On the CPU batches are small enough to stay in cache and go to torch's threads one by one; on
    CUDA there is one a size and exponent. A root that failed stays as it was.

    Args:
        power: raises factors (N, n, n), of `dtype`, to an exponent.
        dtype: working dtype.
    Returns:
        Number of factors that failed or needed another method. One host synchronisation a batch.
    """
    alike: dict[tuple[int, float], list[RootJob]] = {}
    for job in jobs:
        alike.setdefault((job.size, job.exponent), []).append(job)
    if not alike:
        return 0
    first = next(iter(alike.values()))[0]
    on_cpu = first.state[f"factor_{first.mode}"].device.type == "cpu"
    batches = []
    for (size, _), group in sorted(alike.items(), reverse=True):
        batches += _batches(group, max(1, BATCH_WORK // work(1, size)) if on_cpu else None)

    def renew(batch: list[RootJob]) -> int:
        return _renew(batch, power, dtype)

    total = sum(work(len(job.rows), size) for (size, _), group in alike.items() for job in group)
    if on_cpu and total >= MIN_DIVIDED_WORK:
        return sum(map_on_threads(renew, batches))
    return sum(map(renew, batches))


def _batches(jobs: Iterable[RootJob], limit: int | None) -> list[list[RootJob]]:
    """Divide jobs of one size and exponent into batches of at most `limit` factors."""
    batches: list[list[RootJob]] = []
    room = 0
    for job in jobs:
        start = 0
        while start < len(job.rows):
            if room == 0:
                batches.append([])
                room = limit or sum(len(job.rows) for job in jobs)
            stop = min(len(job.rows), start + room)
            batches[-1].append(job._replace(rows=job.rows[start:stop]))
            room -= stop - start
            start = stop
    return batches


def _renew(
    batch: list[RootJob], power: Callable[[Tensor, float], Power], dtype: torch.dtype
) -> int:
    factors = [job.state[f"factor_{job.mode}"][job.where] for job in batch]
    stacked = torch.cat(factors) if len(batch) > 1 else factors[0]
    result = power(stacked.to(dtype), batch[0].exponent)
    num_failed = int(result.failed.sum())
    counts = [len(factor) for factor in factors]
    pieces = (x.split(counts) for x in (result.power, result.eigenvalues, result.failed))
    for job, root, eigenvalues, failed in zip(batch, *pieces, strict=True):
        _store(job, root, eigenvalues, failed if num_failed else None)
    return max(num_failed, result.num_retries)


def _store(job: RootJob, root: Tensor, eigenvalues: Tensor, failed: Tensor | None) -> None:
    for name, value in (("root", root), ("eigenvalues", eigenvalues)):
        target = job.state[f"{name}_{job.mode}"]
        if value.shape[-1] != target.shape[-1]:
            continue  # this method knows no eigenvalues
        value = value.to(target.dtype)
        if failed is not None:
            keep = failed.view(-1, *(1 for _ in value.shape[1:]))
            value = torch.where(keep, target[job.where], value)
        target[job.where] = value


def _by_eigh(factors: Tensor, exponent: float, damping: float, floor: float) -> Power:
    # A factor is positive semidefinite: what lies below zero is round-off, hence the damping below.
    return power_by_eigh(factors, exponent, damping=damping, floor=max(floor, damping))


def _by_coupled_newton(factors: Tensor, exponent: float, damping: float, floor: float) -> Power:
    return power_by_coupled_newton(factors, exponent, damping=damping)


def _by_authors_newton(factors: Tensor, exponent: float, damping: float, floor: float) -> Power:
    """Coupled Newton as in Shampoo's published code: a ridge in the place of damping, no check."""
    return power_by_coupled_newton(factors, exponent, ridge=floor, max_error=math.inf, retry=False)


# (factors, signed exponent, damping, floor) -> powers.
ROOT_METHODS: dict[str, Callable[[Tensor, float, float, float], Power]] = {
    "eigh": _by_eigh,
    "coupled_newton": _by_coupled_newton,
    "coupled_newton_authors": _by_authors_newton,
}
