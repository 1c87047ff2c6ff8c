"""Newton's method with the dense Hessian, for small problems [Lu et al. 2018, eq. 2, appendix]."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import require, require_choice, require_common
from optimizers.common import flat
from optimizers.common.closures import Closure, ClosureOptimizer, loss_with_graph
from optimizers.linalg.eigh import eigh
from optimizers.telemetry import Spectrum

MAX_DIM = 2000
# Rows of the Hessian that one batched pass computes; each holds a copy of what a pass holds.
ROWS = 64


@torch.enable_grad()
def hessian(loss: Tensor, parameters: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Second derivatives of a scalar by all values of all parameters, shape (d, d), symmetrised.

    One pass over the gradient's graph a value, `ROWS` at a time: O(d) times a gradient's cost.
    """
    grads = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    gradient = torch.cat([grad.reshape(-1) for grad in grads])
    d, sizes = len(gradient), [parameter.numel() for parameter in parameters]
    H = torch.zeros(d, d, dtype=dtype, device=gradient.device)
    if gradient.requires_grad:
        identity = torch.eye(d, dtype=gradient.dtype, device=gradient.device)
        for rows, units in zip(H.split(ROWS), identity.split(ROWS), strict=True):
            parts = products(gradient, parameters, units)
            for part, block in zip(parts, rows.split(sizes, dim=1), strict=True):
                if part is not None:
                    block.copy_(part.reshape(block.shape))
    return (H + H.T) / 2


def products(gradient: Tensor, parameters: list[Tensor], units: Tensor) -> list[Tensor | None]:
    """Derivatives of units @ gradient by each parameter, (rows, *shape); None: it has no part."""

    def derive(vectors: Tensor, batched: bool) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            gradient,
            parameters,
            vectors,
            retain_graph=True,
            is_grads_batched=batched,
            allow_unused=True,
        )

    try:
        with warnings.catch_warnings():
            # Said of an operation that vmap gives one row after the other.
            warnings.filterwarnings("ignore", "There is a performance drop")
            return list(derive(units, batched=True))
    except RuntimeError:  # an operation without a batching rule
        rows = [derive(unit, batched=False) for unit in units]
    return [None if parts[0] is None else torch.stack(parts) for parts in zip(*rows, strict=True)]


def resolution(eigenvalues: Tensor) -> Tensor:
    """Absolute value below which an eigenvalue is round-off, 0-d: d eps |H|, which bounds the
    backward error of a symmetric eigensolver.
    """
    return len(eigenvalues) * torch.finfo(eigenvalues.dtype).eps * eigenvalues.abs().max()


class Newton(ClosureOptimizer):
    """Newton's method with eigenvalues of either sign [Lu et al. 2018, eqs. 1 and 2].

        x <- (1 - lr weight_decay) x - lr (|H| + damping I)^{-1} g        H the loss's Hessian

    |H| has the absolute values of H's eigenvalues, so that the step descends also where H is
    indefinite; where it is positive definite this is Newton's method, which does not depend on an
    affine change of parameters (damping -> 0). `curvature="signed"` is the method as printed, which
    goes to saddle points too (damping then adds to the size). Eigenvalues that are round-off, of a
    condition number that the dtype cannot hold, are raised to its resolution.

    H couples all parameters of all groups: d gradients' cost and O(d^3) each `update_freq` steps. A
    step with a loss, gradient or Hessian that is not finite is skipped: a fallback.

    Memory: d^2 + d numbers, of the widest of the parameters' dtypes, float32 at least.
    No dtype to choose: H is what the parameters' own precision makes of it. Its inverse is never
    formed, only applied to one vector, so that no residual of it is known.

    Args:
        params: parameters or groups; lr and weight_decay may differ by group, the rest must agree.
        lr: >= 0.
        damping: added to the eigenvalues; > 0; units of the Hessian.
        curvature: "absolute" or "signed" eigenvalues.
        update_freq: steps from one Hessian to the next.
        weight_decay: decoupled; >= 0.
    Raises:
        ValueError: on a value outside these ranges, or at the first step if d > 2000.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1.0,
        damping: float = 1e-8,
        curvature: str = "absolute",
        update_freq: int = 1,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "damping": damping,
            "curvature": curvature,
            "update_freq": update_freq,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        require_choice(options["curvature"], "curvature", ("absolute", "signed"))

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of the Hessian in use; nothing before the first step."""
        state = self.state.get("model")
        if state is None:
            return []
        eigenvalues = state["eigenvalues"]
        on_cpu = eigenvalues.to(device="cpu", dtype=torch.float64, copy=True)
        return [
            Spectrum(
                "model",
                "hessian",
                on_cpu,
                float(resolution(eigenvalues)),
                fallbacks=self.state["shared"]["fallbacks"],
                staleness=state["staleness"],
            )
        ]

    def _search(self, closure: Closure, loss: Tensor) -> bool:
        options = flat.shared_options(self.param_groups)
        parameters = flat.all_parameters(self.param_groups)
        dim = flat.num_values(self.param_groups)
        require(dim <= MAX_DIM, "number of parameters", f"<= {MAX_DIM} (dense matrix)", dim)
        dtype = flat.flat_dtype(self.param_groups)
        gradient = torch.zeros(dim, dtype=dtype, device=parameters[0].device)
        if not flat.gather_gradients(self.param_groups, gradient):
            return True
        if not bool(gradient.isfinite().all()):
            return False
        state = self._renewed(closure, parameters, dtype, options)
        if state is None:
            return False
        Q, eigenvalues = state["basis"], state["eigenvalues"]
        floor = resolution(eigenvalues)
        scales = eigenvalues.abs().clamp(min=floor) + options["damping"]
        if options["curvature"] == "signed":
            scales = scales.copysign(eigenvalues)
        direction = Q @ ((Q.T @ gradient) / scales)
        if not bool(direction.isfinite().all()):
            return False
        self.state["model"] = state
        parts = direction.split([parameter.numel() for parameter in parameters])
        views = [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]
        flat.apply_updates(self.param_groups, views)
        return True

    def _renewed(
        self,
        closure: Closure,
        parameters: list[Tensor],
        dtype: torch.dtype,
        options: dict[str, Any],
    ) -> dict[str, Any] | None:
        """The state with a Hessian as new as is due; None if that is not finite."""
        state = self.state.get("model")
        dim = sum(parameter.numel() for parameter in parameters)
        if state is not None and len(state["eigenvalues"]) == dim:
            age = state["staleness"] + 1
            if age < options["update_freq"]:
                return {**state, "staleness": age}
        H = hessian(loss_with_graph(closure), parameters, dtype)
        if not bool(H.isfinite().all()):
            return None
        try:
            eigenvalues, Q = eigh(H)
        except torch.linalg.LinAlgError:
            return None
        return {"eigenvalues": eigenvalues, "basis": Q, "staleness": 0}
