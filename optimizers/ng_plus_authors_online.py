"""NG+ as its authors' later, "online" code has it: from the momentum of each parameter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from optimizers.base import (
    PreconditionedOptimizer,
    require,
    require_common,
    require_count,
    require_number,
)
from optimizers.common.gradients import require_dense, require_real
from optimizers.linalg.inverse import damped_inverse
from optimizers.telemetry import Spectrum, parameter_names

# Least value there of the largest entry of L, under which the damping is not cut.
LEAST_CUT = 1e-3
# Rows of a parameter of which a matrix of rows by rows is made: one takes a gibibyte in float32.
MAX_ROWS = 2**14


class NGPlusAuthorsOnline(PreconditionedOptimizer):
    """NG+, reading `authors`, their online version: one left matrix for every parameter.

        M <- momentum M + (g + weight_decay Theta),   M = g before the first step
        L <- beta2 L + (1 - beta2) M M^T every `statistic_freq` steps,   L_0 = initial I
        Theta <- Theta - lr (L + sqrt(min(damping, max(max|L_ij|, 1e-3))) I)^-1 M

    M as a matrix of its first dimension; the inverse is renewed every `update_freq` steps. The
    first M is therefore 1.9 g with momentum 0.9. Biases and norms are treated like the rest, with
    L (m, m) though they are vectors. A matrix is inverted by Cholesky factors, where that code
    uses LU; their block version for more than 1024 rows does not run as written and is left out.

    Gradients or statistics that are not finite skip the step. One host synchronisation a step, and
    one for each renewal. Memory: 2 m^2 + m n values a parameter of m rows, in its dtype, float32 at
    least, as there: a reading of their numbers has no other precision.

    Args:
        params: parameters or groups; all options may differ by group.
        lr, weight_decay: >= 0; the decay is added to the gradient.
        momentum: in [0, 1).
        damping: > 0.
        beta2: in (0, 1).
        initial: > 0.
        statistic_freq, update_freq: steps from one renewal to the next.
    Raises:
        ValueError: on a value outside these ranges, or a parameter of more than 16,384 rows, such
            as a large table: a rule in `groups` can send it to another optimizer.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        momentum: float = 0.9,
        damping: float = 0.001,
        weight_decay: float = 0.0,
        beta2: float = 0.99,
        initial: float = 1e-8,
        statistic_freq: int = 10,
        update_freq: int = 1,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "damping": damping,
            "weight_decay": weight_decay,
            "beta2": beta2,
            "initial": initial,
            "statistic_freq": statistic_freq,
            "update_freq": update_freq,
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common({name: value for name, value in options.items() if name != "beta2"})
        require_number(options["beta2"], "beta2", 0, 1, "()")
        require_number(options["initial"], "initial", ends="()")
        require_count(options["statistic_freq"], "statistic_freq")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        require_real(self.param_groups)
        names = iter(parameter_names(self.param_groups))
        for parameter in (p for group in self.param_groups for p in group["params"]):
            rows = len(parameter) if parameter.ndim else 1
            require(rows <= MAX_ROWS, f"rows of {next(names)}", f"<= {MAX_ROWS} (matrix of rows by "
                    "rows)", rows)  # fmt: skip

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of each parameter's L."""
        spectra, fallbacks = [], self.state.get("shared", {}).get("fallbacks", 0)
        parameters = [p for group in self.param_groups for p in group["params"]]
        for name, parameter in zip(parameter_names(self.param_groups), parameters, strict=True):
            state = self.state.get(parameter)
            if state:
                L = state["factor"].to("cpu", torch.float64)
                values = torch.linalg.eigvalsh(L)
                eye = torch.eye(len(L), dtype=L.dtype)
                product = (L + state["shift"] * eye) @ state["inverse"].to(L)
                spectra.append(
                    Spectrum(
                        name,
                        "second_moment",
                        values,
                        len(L) * torch.finfo(state["factor"].dtype).eps * float(values[-1]),
                        root_residual=float((product - eye).norm() / len(L) ** 0.5),
                        fallbacks=fallbacks,
                        staleness=state["steps"] - 1 - state["refreshed"],
                    )
                )
        return spectra

    def _update(self) -> None:
        shared = self.state["shared"]
        shared.setdefault("fallbacks", 0)
        work = [(g, p) for g in self.param_groups for p in g["params"] if p.grad is not None]
        work = [(group, p) for group, p in work if p.numel() > 0]
        require_dense(self.param_groups)
        if not work:
            return
        plans = [self._plan(group, p) for group, p in work]
        traces = [
            plan["factor"].diagonal().sum() + plan["momentum_buffer"].abs().max() for plan in plans
        ]
        if not bool(torch.stack([trace.float() for trace in traces]).isfinite().all()):
            shared["fallbacks"] += 1
            return
        shared["fallbacks"] += _invert(plans, [group for group, _ in work])
        for (group, p), plan in zip(work, plans, strict=True):
            step = plan["inverse"] @ _matrix(plan["momentum_buffer"])
            p.add_(step.view_as(p), alpha=-float(group["lr"]))
            self.state[p] = {**plan, "steps": plan["steps"] + 1}

    def _plan(self, group: dict[str, Any], p: Tensor) -> dict[str, Any]:
        """The parameter's state with this step's momentum and statistic; nothing is committed."""
        dtype = torch.promote_types(p.dtype, torch.float32)
        grad = p.grad.to(dtype)
        state = self.state.get(p)
        if not state:
            eye = torch.eye(len(_matrix(p)), dtype=dtype, device=p.device)
            state = {
                "momentum_buffer": grad,
                "factor": group["initial"] * eye,
                "inverse": eye,
                "shift": 0.0,
                "steps": 0,
                "refreshed": -1,
            }
        decayed = grad.add(p, alpha=group["weight_decay"]) if group["weight_decay"] else grad
        M = (
            torch.add(decayed, state["momentum_buffer"], alpha=group["momentum"])
            if group["momentum"]
            else decayed.clone()
        )
        state = {**state, "momentum_buffer": M}
        if state["steps"] % group["statistic_freq"] == 0:
            beta2 = group["beta2"]
            X = _matrix(M)
            state["factor"] = torch.addmm(state["factor"], X, X.T, beta=beta2, alpha=1 - beta2)
        return state


def _matrix(tensor: Tensor) -> Tensor:
    """As a matrix of the first dimension; a number is 1 x 1."""
    return tensor.reshape(len(tensor) if tensor.ndim else 1, -1)


def _invert(plans: list[dict[str, Any]], groups: list[dict[str, Any]]) -> int:
    """Renew the inverses that are due, in batches of one size; returns the number of fallbacks."""
    due = defaultdict(list)
    for plan, group in zip(plans, groups, strict=True):
        if plan["steps"] % group["update_freq"] == 0:
            L = plan["factor"]
            due[len(L), L.dtype, L.device].append((plan, float(group["damping"])))
    num_fallbacks = 0
    for items in due.values():
        L = torch.stack([plan["factor"] for plan, _ in items])
        damping = torch.tensor([value for _, value in items], dtype=L.dtype, device=L.device)
        largest = L.abs().amax(dim=(1, 2)).clamp(min=LEAST_CUT)
        shift = torch.minimum(damping, largest).sqrt()
        result = damped_inverse(L + torch.diag_embed(shift[:, None].expand(L.shape[:2])), 0.0)
        num_fallbacks += result.num_retries
        rest = (shift.tolist(), result.failed.tolist(), result.inverse.unbind())
        for (plan, _), value, failed, inverse in zip(items, *rest, strict=True):
            num_fallbacks += failed
            if not failed:
                plan.update(inverse=inverse.clone(), shift=value, refreshed=plan["steps"])
    return num_fallbacks
