"""State of K-FAC's layers of one shape: their Kronecker factors and the inverses of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from optimizers.linalg.inverse import damped_inverse
from optimizers.telemetry import Spectrum

State = dict[str, Any]

# Factor of the inputs, (N, n, n), and of the gradients by the outputs, (N, m, m).
SIDES = ("A", "G")


@dataclass
class Sums:
    """Sums over the samples of the passes recorded for one step.

    Attributes:
        inputs: sum of a a^T over samples and positions, shape (n, n).
        deltas: sum of d d^T over samples, mean over positions, shape (m, m).
        count: number of samples.
    """

    inputs: Tensor | None = None
    deltas: Tensor | None = None
    count: int = 0

    def add(self, activations: Tensor, deltas: Tensor) -> None:
        """Add samples with activations (B, T, n) and deltas (B, T, m)."""
        a, d = activations.flatten(0, 1), deltas.flatten(0, 1)
        new_inputs, new_deltas = a.T @ a, d.T @ d / deltas.shape[1]
        self.inputs = new_inputs if self.inputs is None else self.inputs + new_inputs
        self.deltas = new_deltas if self.deltas is None else self.deltas + new_deltas
        self.count += len(activations)

    def means(self) -> tuple[Tensor, Tensor]:
        return self.inputs / self.count, self.deltas / self.count


def initial_state(
    num_layers: int,
    shape: tuple[int, int],
    statistics_dtype: torch.dtype,
    apply_dtype: torch.dtype,
    device: torch.device,
) -> State:
    """Factors that are identities until their layer has statistics; no inverses yet.

    `seen` says which layers have statistics, `damping_A` and `damping_G` what was added to the
    factors when they were inverted, at step `inverted_at`.
    """
    m, n = shape
    state: State = {"seen": [False] * num_layers, "inverted_at": -1}
    for side, size in zip(SIDES, (n, m), strict=True):
        eye = torch.eye(size, dtype=statistics_dtype, device=device)
        state[side] = eye.repeat(num_layers, 1, 1)
        state[f"inverse_{side}"] = eye.to(apply_dtype).repeat(num_layers, 1, 1)
        state[f"damping_{side}"] = torch.zeros(num_layers, dtype=torch.float64, device=device)
    return state


def averaged(
    state: State, active: list[int], means: list[tuple[Tensor, Tensor]], beta2: float
) -> State:
    """The state with beta2 X + (1 - beta2) X_new for active layers, X_new where it is the first."""
    new = {**state, "seen": [old or i in active for i, old in enumerate(state["seen"])]}
    for k, side in enumerate(SIDES):
        stacked = torch.stack([mean[k] for mean in means])
        kept = [beta2 if state["seen"][i] else 0.0 for i in active]
        kept = torch.tensor(kept, dtype=stacked.dtype, device=stacked.device)[:, None, None]
        mixed = kept * state[side][active].to(stacked.dtype) + (1 - kept) * stacked
        new[side] = state[side].clone()
        new[side][active] = mixed.to(new[side].dtype)
    return new


def are_finite(states: list[State]) -> bool:
    """Whether all factors are: a positive semi-definite matrix is where its trace is.

    One host synchronisation.
    """
    traces = [
        state[side].diagonal(dim1=-2, dim2=-1).double().sum() for state in states for side in SIDES
    ]
    return bool(torch.stack(traces).isfinite().all())


def split_damping(A: Tensor, G: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """What is added to the diagonals of A (N, n, n) and of G (N, m, m), each (N,), float64.

    Equation: pi damping^{1/2} and damping^{1/2} / pi, pi^2 = (tr A / n) / (tr G / m)
              [Martens and Grosse 2015, section 6.3]; pi = 1 where a trace is zero.
    """
    means = [X.diagonal(dim1=-2, dim2=-1).double().mean(-1) for X in (A, G)]
    pi = (means[0] / means[1]).sqrt()
    pi = torch.where(pi.isfinite() & (pi > 0), pi, 1.0)
    return pi * damping**0.5, damping**0.5 / pi


def inverted(
    state: State, damping: float, step: int, dtype: torch.dtype
) -> tuple[State | None, int]:
    """The state with new inverses, made in `dtype`, and the number of retries.

    None where an inverse is not finite.
    """
    new, retries = {**state, "inverted_at": step}, 0
    added = split_damping(state["A"], state["G"], damping)
    for side, values in zip(SIDES, added, strict=True):
        scale = values.to(dtype)[:, None, None]
        # (X + d I)^{-1} = (X / d + I)^{-1} / d, with a d of its own for each layer.
        result = damped_inverse(state[side].to(dtype) / scale, 1.0)
        if bool(result.failed.any()):
            return None, 0
        retries += result.num_retries
        new[f"inverse_{side}"] = (result.inverse / scale).to(state[f"inverse_{side}"].dtype)
        new[f"damping_{side}"] = values
    return new, retries


def apply(state: State, active: list[int], gradients: Tensor) -> Tensor:
    """D = G^{-1} (gradient) A^{-1} of the active layers, shape (A, m, n), the gradients' dtype."""
    left, right = state["inverse_G"], state["inverse_A"]
    if len(active) < len(left):
        left, right = left[active], right[active]
    return (left @ gradients.to(left.dtype) @ right).to(gradients.dtype)


def spectra_of(names: list[str], state: State, shared: dict[str, int]) -> list[Spectrum]:
    """Spectra of A and G of each layer that has statistics."""
    spectra = []
    for index, name in enumerate(names):
        for side in SIDES if state["seen"][index] else ():
            X = state[side][index].to("cpu", torch.float64)
            eigenvalues = torch.linalg.eigvalsh((X + X.T) / 2)
            unit = len(X) * torch.finfo(state[side].dtype).eps
            inverse = state[f"inverse_{side}"][index].to("cpu", torch.float64)
            eye = torch.eye(len(X), dtype=torch.float64)
            error = inverse @ (X + float(state[f"damping_{side}"][index]) * eye) - eye
            spectra.append(
                Spectrum(
                    f"{name}.{side}",
                    "factor",
                    eigenvalues,
                    unit * float(eigenvalues[-1]),
                    root_residual=float(error.norm()) / len(X) ** 0.5,
                    fallbacks=shared["fallbacks"],
                    staleness=shared["steps"] - 1 - state["inverted_at"],
                )
            )
    return spectra
