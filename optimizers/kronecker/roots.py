"""Roots of the factors of many buckets: when they are due, and all of one size at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from optimizers.linalg.coupled_newton import power_by_coupled_newton
from optimizers.linalg.powers import Power, power_by_eigh

# `root_step` of a parameter whose roots were never computed: they are identities.
NO_ROOT = -1


class RootJob(NamedTuple):
    """Factors of one mode of one bucket whose roots are wanted.

    Attributes:
        state: of the bucket; `root_<mode>` and `eigenvalues_<mode>` are renewed in it.
        mode: which factor.
        exponent: of the power, signed.
        rows: those wanted, None for all.
    """

    state: dict[str, Any]
    mode: int
    exponent: float
    rows: list[int] | None

    def factors(self) -> Tensor:
        whole = self.state[f"factor_{self.mode}"]
        return whole if self.rows is None else whole[self.rows]


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
    """Renew the roots of all jobs; those of equal size and exponent go through one call.

    A root that failed stays as it was.

    Args:
        power: raises factors (N, n, n), of `dtype`, to an exponent.
        dtype: working dtype.
    Returns:
        Number of factors that failed or needed another method. One host synchronisation a call.
    """
    alike: dict[tuple[int, float], list[RootJob]] = {}
    for job in jobs:
        size = job.state[f"factor_{job.mode}"].shape[-1]
        alike.setdefault((size, job.exponent), []).append(job)
    num_fallbacks = 0
    for (_, exponent), group in alike.items():
        factors = [job.factors() for job in group]
        counts = [len(factor) for factor in factors]
        result = power((torch.cat(factors) if len(group) > 1 else factors[0]).to(dtype), exponent)
        num_failed = int(result.failed.sum())
        num_fallbacks += max(num_failed, result.num_retries)
        parts = (result.power, result.eigenvalues, result.failed)
        pieces = (part.split(counts) for part in parts)
        for job, root, eigenvalues, failed in zip(group, *pieces, strict=True):
            _store(job, root, eigenvalues, failed if num_failed else None)
    return num_fallbacks


def _store(job: RootJob, root: Tensor, eigenvalues: Tensor, failed: Tensor | None) -> None:
    rows = slice(None) if job.rows is None else job.rows
    for name, value in (("root", root), ("eigenvalues", eigenvalues)):
        target = job.state[f"{name}_{job.mode}"]
        if value.shape[-1] != target.shape[-1]:
            continue  # this method knows no eigenvalues
        value = value.to(target.dtype)
        if failed is not None:
            keep = failed.view(-1, *(1 for _ in value.shape[1:]))
            value = torch.where(keep, target[rows], value)
        target[rows] = value


def _by_eigh(factors: Tensor, exponent: float, damping: float, floor: float) -> Power:
    # A factor is positive semidefinite: what lies below zero is round-off, hence the damping below.
    return power_by_eigh(factors, exponent, damping=damping, floor=max(floor, damping))


def _by_coupled_newton(factors: Tensor, exponent: float, damping: float, floor: float) -> Power:
    return power_by_coupled_newton(factors, exponent, damping=damping)


# (factors, signed exponent, damping, floor) -> powers; the second has no use for a floor.
ROOT_METHODS: dict[str, Callable[[Tensor, float, float, float], Power]] = {
    "eigh": _by_eigh,
    "coupled_newton": _by_coupled_newton,
}
