"""Spectra of the factors of a bucket, read from its state when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from optimizers.kronecker.buckets import Bucket
from optimizers.kronecker.roots import NO_ROOT
from optimizers.linalg.powers import residual, symmetrise
from optimizers.telemetry import Spectrum


def factor_spectra(
    bucket: Bucket,
    state: dict[str, Any],
    names: Sequence[str],
    root_steps: Sequence[int],
    *,
    kind: str,
    exponent: float,
    damping: float,
    step: int,
    fallbacks: int,
) -> Iterator[tuple[int, int, int, Spectrum]]:
    """Yield each factor's spectrum after (position, number of the block, mode) to sort by.

    Eigenvalues are those of the last root where it was a decomposition, else of the factor now. The
    residual is that of the root in use against the factor now: of both age and round-off.

    Args:
        names: of the group's parameters.
        root_steps: by position, NO_ROOT for what was never computed.
        kind: of the matrices.
        exponent: of the roots, signed.
        damping: as given to the roots.
        step: the last one taken.
        fallbacks: so far.
    """
    for mode in range(bucket.num_modes):
        factors, known = state[f"factor_{mode}"], state[f"eigenvalues_{mode}"]
        residuals = residual(state[f"root_{mode}"], factors, exponent, damping=damping).tolist()
        unknown = (known == 0).all(-1)
        if unknown.any():
            now = torch.linalg.eigvalsh(symmetrise(factors.double()))
            known = torch.where(unknown[:, None], now, known.double())
        known = known.to(device="cpu", dtype=torch.float64, copy=True)
        # The backward error of a symmetric eigensolver is of the order n eps |S|.
        unit = bucket.shape[mode] * torch.finfo(factors.dtype).eps
        rows = zip(bucket.positions, bucket.numbers, strict=True)
        for row, (position, number) in enumerate(rows):
            last = root_steps[position]
            yield (
                position,
                number,
                mode,
                Spectrum(
                    f"{names[position]}[{number}].mode{mode}",
                    kind,
                    known[row],
                    unit * float(known[row, -1].abs()),
                    root_residual=residuals[row],
                    fallbacks=fallbacks,
                    staleness=step if last == NO_ROOT else step - last,
                ),
            )


def factor_matrices(
    bucket: Bucket, state: dict[str, Any], names: Sequence[str]
) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (name, "statistic" or "root", matrix) of each block's factors and roots, views."""
    for row, (position, number) in enumerate(zip(bucket.positions, bucket.numbers, strict=True)):
        for mode in range(bucket.num_modes):
            name = f"{names[position]}[{number}].mode{mode}"
            yield name, "statistic", state[f"factor_{mode}"][row]
            yield name, "root", state[f"root_{mode}"][row]
