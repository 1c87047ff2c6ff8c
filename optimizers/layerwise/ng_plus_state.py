"""The state of NG+'s curvature over a bucket of layers: renewed, inverted, applied, looked at.

Dense: `factor` and `inverse`, both (N, s, p, p). Low rank: `basis` U (N, k, b), `core`
(damping I + U^T U)^-1 and, where the system is sketched, `rows`. Both: `damping`, that of the
inverse, and `refreshed`, the step at which each layer's inverse was made, -1 for none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from optimizers.layerwise.buckets import Bucket
from optimizers.layerwise.ng_plus_curvature import Side
from optimizers.linalg.inverse import damped_inverse
from optimizers.linalg.projection import project_to_ball
from optimizers.linalg.sketch import sketched_core, sketched_product
from optimizers.linalg.woodbury import woodbury_core, woodbury_product
from optimizers.telemetry import Spectrum

State = dict[str, Any]


def initial_state(
    num_layers: int,
    side: Side,
    initial: float,
    damping: float,
    dtypes: dict[str, torch.dtype],
    device: torch.device,
) -> State:
    """L = initial I and its damped inverse."""
    s, p = side.num_blocks, side.block_size
    eye = torch.eye(p, dtype=torch.float64, device=device).expand(num_layers, s, p, p)
    return {
        "factor": (initial * eye).to(dtypes["statistics"]),
        "inverse": (eye / (initial + damping)).to(dtypes["apply"]),
        "damping": damping,
        "refreshed": [-1] * num_layers,
    }


def dense_factor(state: State, side: Side) -> Tensor:
    """L in blocks, shape (N, s, p, p), whichever form the state has."""
    if "basis" not in state:
        return state["factor"]
    return side.gram(state["basis"])


def with_factor(state: State, side: Side, active: list[int], new: Tensor) -> State:
    """The state with L of the active layers replaced; the inverse stays as it was."""
    old = dense_factor(state, side)
    factor = put(old, active, new.to(old.dtype))
    if "basis" not in state:
        return {**state, "factor": factor}
    inverse = damped_inverse(old.to(torch.float32), state["damping"]).inverse
    rest = {key: state[key] for key in ("damping", "refreshed")}
    return {"factor": factor, "inverse": inverse.to(state["core"].dtype), **rest}


def is_finite(states: list[State]) -> Tensor:
    """Whether the statistics are, a tensor; a semidefinite matrix is finite if its trace is."""
    traces = [
        state["basis"].float().square().sum()
        if "basis" in state
        else state["factor"].diagonal(dim1=-2, dim2=-1).float().sum()
        for state in states
    ]
    return torch.stack(traces).isfinite().all()


def with_inverse(
    state: State, active: list[int], damping: float, step: int, dtypes: dict[str, torch.dtype]
) -> tuple[State, int]:
    """The dense state with the active layers inverted anew, and the number of fallbacks.

    What has no finite inverse, not even in float64, keeps its old one.
    """
    result = damped_inverse(picked(state["factor"], active).to(dtypes["root"]), damping)
    made = result.inverse.to(dtypes["apply"])
    num_failed = 0
    if result.num_retries or result.failed.any():
        failed = result.failed.flatten(1).any(1) if result.failed.ndim > 1 else result.failed
        good = [k for k, bad in enumerate(failed.tolist()) if not bad]
        num_failed = len(active) - len(good)
        active, made = [active[k] for k in good], made[good]
    refreshed = [step if i in set(active) else at for i, at in enumerate(state["refreshed"])]
    inverse = put(state["inverse"], active, made)
    new = {**state, "inverse": inverse, "damping": damping, "refreshed": refreshed}
    return new, result.num_retries + num_failed


def with_core(
    state: State, old: State | None, damping: float, step: int, dtypes: dict[str, torch.dtype]
) -> tuple[State | None, int]:
    """The state of low rank with its cores, all layers being active, and the number of fallbacks.

    A core belongs to its basis, so that all layers keep their `old` state, None if there is none,
    where one of them has no finite core, not even in float64.
    """
    U, rows = state["basis"].to(dtypes["root"]), state.get("rows")
    result = woodbury_core(U, damping) if rows is None else sketched_core(U, rows, damping)
    if bool(result.failed.any()):
        return old, result.num_retries + int(result.failed.sum())
    core, refreshed = result.inverse.to(dtypes["apply"]), [step] * len(U)
    return {**state, "core": core, "damping": damping, "refreshed": refreshed}, result.num_retries


def apply(state: State, side: Side, X: Tensor, active: list[int]) -> Tensor:
    """(L + damping I)^-1 X of X (A, k, c), in the dtype of the inverse."""
    if "basis" not in state:
        inverse = picked(state["inverse"], active)
        return side.join(inverse @ side.cut(X.to(inverse.dtype)))
    core = picked(state["core"], active)
    U, X = picked(state["basis"], active).to(core.dtype), X.to(core.dtype)
    if "rows" not in state:
        return woodbury_product(U, core, X, state["damping"])
    return sketched_product(U, core, X, picked(state["rows"], active), state["damping"])


def projected(state: State, side: Side, X: Tensor, active: list[int], radius: float) -> Tensor:
    """X (N, k, c), the active ones brought into |X|_F <= radius in the norm of L    [eq. 19]."""
    X = X.clone()
    for i in active:
        L = torch.block_diag(*state["factor"][i])[: side.size, : side.size].to(X)
        L.diagonal().add_(state["damping"])
        X[i] = project_to_ball(X[i], L, radius)
    return X


def spectra_of(bucket: Bucket, state: State, side: Side, shared: dict[str, int]) -> list[Spectrum]:
    """Spectrum of L of each layer; computed when asked."""
    spectra = []
    for index, at in enumerate(state["refreshed"]):
        values = eigenvalues(state, side, index)
        kept = state["basis" if "basis" in state else "factor"].dtype
        spectra.append(
            Spectrum(
                bucket.names[index],
                "second_moment",
                values,
                resolution=len(values) * torch.finfo(kept).eps * float(values[-1]),
                root_residual=residual(state, index),
                fallbacks=shared["fallbacks"],
                staleness=shared["steps"] - 1 - at if at >= 0 else shared["steps"],
            )
        )
    return spectra


def matrices_of(bucket: Bucket, state: State) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (name, quantity, tensor) of each layer: its statistic and its root, views."""
    low_rank = "basis" in state
    for index, name in enumerate(bucket.names):
        yield name, "statistic", state["basis" if low_rank else "factor"][index]
        yield name, "root", state["core" if low_rank else "inverse"][index]


def eigenvalues(state: State, side: Side, index: int) -> Tensor:
    """Eigenvalues of one layer's L, float64 on the CPU, ascending; of low rank, the b of U^T U."""
    if "basis" in state:
        U = state["basis"][index].to("cpu", torch.float64)
        return torch.linalg.eigvalsh(U.T @ U)
    blocks = state["factor"][index].to("cpu", torch.float64)
    last = side.size - (side.num_blocks - 1) * side.block_size
    values = [torch.linalg.eigvalsh(blocks[:-1]).flatten()]
    values.append(torch.linalg.eigvalsh(blocks[-1, :last, :last]))
    return torch.cat(values).sort().values


def residual(state: State, index: int) -> float:
    """|(L + damping I) X - I|_F / |I|_F of the inverse X in use, a sketch's error included."""
    if "basis" in state:
        U, core = state["basis"][index].to(state["core"].dtype), state["core"][index]
        eye = torch.eye(len(U), dtype=core.dtype, device=core.device)
        if "rows" in state:
            X = sketched_product(U, core, eye, state["rows"][index], state["damping"])
        else:
            X = woodbury_product(U, core, eye, state["damping"])
        U, X = U.double(), X.double()
        error = U @ (U.mT @ X) + state["damping"] * X - eye
        return float(error.norm()) / len(U) ** 0.5
    factor = state["factor"][index].double()
    eye = torch.eye(factor.shape[-1], dtype=torch.float64, device=factor.device)
    product = (factor + state["damping"] * eye) @ state["inverse"][index].double()
    return float((product - eye).norm() / eye.expand_as(product).norm())


def picked(stack: Tensor, active: list[int]) -> Tensor:
    """Those of the stack's layers that are active; the stack itself, not a copy, if all are."""
    return stack if len(active) == len(stack) else stack[active]


def put(old: Tensor, active: list[int], new: Tensor) -> Tensor:
    """`old` with some of its layers replaced; not in place."""
    if len(active) == len(old):
        return new
    result = old.clone()
    result[active] = new
    return result
