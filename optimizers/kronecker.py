"""What optimizers with one small matrix a mode share: blocks, schedule, grafting, momentum."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from optimizers import flat
from optimizers.base import (
    DTYPES,
    PreconditionedOptimizer,
    dtype_name,
    require,
    require_common,
)
from optimizers.buckets import Batch, Bucket, Workspace, fill_buckets
from optimizers.grafting import GRAFTS, rescale_
from optimizers.linalg.kron import multiply_modes
from optimizers.linalg.powers import Power, power_by_eigh
from optimizers.momentum import MOMENTUM_RULES
from optimizers.telemetry import Spectrum

NO_ROOT = -1


class KroneckerOptimizer(PreconditionedOptimizer):
    """Abstract base: a factor a mode of each block, whose powers are applied mode by mode.

    A step, on each block G of each gradient (see `optimizers.linalg.blocking`):

        S_i <- statistic of mode i          `_accumulate`
        P_i <- S_i^exponent                 at steps due, `_power`
        U = G x_1 P_1 ... x_k P_k           `_precondition`

    then per parameter grafting (the update's norm), weight decay, momentum and x <- x - lr m.

    State. `state["<group>/<n_1>x<n_2>"]`: all blocks of one shape in a group, stacked: `factor_i`
    and `root_i`, shape (N, n_i, n_i), and `eigenvalues_i`, shape (N, n_i), of the last root.
    `state[parameter]`: `momentum_buffer`, the graft's accumulators, `root_step`, the step at which
    its roots were last computed. `state["shared"]`: `step`, `fallbacks`, and a bound a group on
    the trace of its factors, so that what would overflow is known before it is added.

    Steps count from 1 and are those of the optimizer; skipped ones do not count. One host
    synchronisation a step (norms of the gradients), more in steps that compute roots.

    Subclasses give the methods named above as far as they differ, `_initial_scale` and `_exponent`,
    and the options that `kronecker_defaults` lists.
    """

    # Kind of matrix that the spectra report.
    factor_kind = "factor"

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self._workspaces: dict[int, Workspace] = {}
        super().__init__(params, defaults)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._workspaces = {}

    # ---- what a subclass gives ------------------------------------------------------------------

    @abstractmethod
    def _exponent(self, num_modes: int, options: dict[str, Any]) -> float:
        """Signed exponent of each factor of a block with `num_modes` modes."""

    @abstractmethod
    def _accumulate(self, batch: Batch, step: int, options: dict[str, Any]) -> None:
        """Renew the factors `batch.state["factor_i"]` in place from `batch.grads`."""

    def _initial_scale(self, options: dict[str, Any]) -> float:
        """Multiple of the identity with which a factor begins."""
        return options["initial_scale"]

    def _power(self, factors: Tensor, exponent: Tensor, options: dict[str, Any]) -> Power:
        """Raise factors (N, n, n), in the root dtype, to exponents (N,)."""
        # A factor is positive semidefinite: what lies below zero is round-off, hence the floor.
        floor = max(options["floor"], options["damping"])
        return power_by_eigh(factors, exponent, damping=options["damping"], floor=floor)

    def _precondition(self, batch: Batch, step: int, options: dict[str, Any]) -> Tensor:
        """The update's blocks, shape and dtype of `batch.grads`, which may be overwritten."""
        roots = [batch.state[f"root_{mode}"] for mode in range(batch.bucket.num_modes)]
        dtype = roots[0].dtype
        same = dtype == batch.grads.dtype
        return multiply_modes(batch.grads.to(dtype), roots, batch.spare if same else None)

    def _modes_due(self, batch: Batch, options: dict[str, Any]) -> Iterable[int]:
        """Modes whose roots are computed when the blocks' time has come."""
        return range(batch.bucket.num_modes)

    # ---- options --------------------------------------------------------------------------------

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        for name, allowed in (
            ("momentum_rule", MOMENTUM_RULES),
            ("weight_decay_rule", ("decoupled", "l2")),
            ("graft", GRAFTS),
            ("root_schedule", ("from_start", "multiples")),
        ):
            require(options[name] in allowed, name, "one of " + ", ".join(allowed), options[name])
        for name in ("statistics_dtype", "apply_dtype"):
            dtype_name(options[name], name)
        dtype_name(options["root_dtype"], "root_dtype", ("float32", "float64"))
        exponent = options["exponent"]
        require(exponent is None or exponent > 0, "exponent", "None or > 0", exponent)
        for name in ("initial_scale", "floor"):
            require(0 <= options[name] < math.inf, name, "finite and >= 0", options[name])
        require(options["graft_eps"] >= 0, "graft_eps", ">= 0", options["graft_eps"])
        require(0 < options["graft_beta2"] < 1, "graft_beta2", "in (0, 1)", options["graft_beta2"])
        require(
            isinstance(options["merge_dims"], bool), "merge_dims", "a bool", options["merge_dims"]
        )

    # ---- a step ---------------------------------------------------------------------------------

    def _update(self) -> None:
        shared = self._shared_state()
        grads = [_gradients(group) for group in self.param_groups]
        if not any(grads):
            return
        norms = [
            self._norms(group, found) for group, found in zip(self.param_groups, grads, strict=True)
        ]
        bounds = self._new_bounds(shared["bounds"], norms)
        if bounds is None:
            shared["fallbacks"] += 1
            return
        shared["bounds"] = bounds
        shared["step"] += 1
        for index, found in enumerate(grads):
            if found:
                self._update_group(index, found, norms[index])

    def _update_group(self, index: int, grads: dict[int, Tensor], norms: list[Tensor]) -> None:
        group, step = self.param_groups[index], self.state["shared"]["step"]
        parameters = [group["params"][position] for position in grads]
        work = self._workspace(index, grads)
        states = [self._parameter_state(p, group) for p in parameters]
        work.gather(grads)
        for batch in work.batches:
            state = self._bucket_state(index, batch.bucket)
            batch.load(state)
            self._accumulate(batch, step, group)
            batch.store(state)
        self._refresh_roots(index, work, step)
        graft = GRAFTS[group["graft"]]
        directions = graft.directions(list(grads.values()), states, group)
        if step < group["start_step"]:
            updates = [d.to(_work_dtype(group), copy=True) for d in directions]
        else:
            updates = self._preconditioned(index, work, step)
            target_norms = graft.norms(directions, norms)
            if target_norms is not None:
                rescale_(updates, target_norms)
        self._apply(group, parameters, states, updates)

    def _preconditioned(self, index: int, work: Workspace, step: int) -> list[Tensor]:
        outputs = []
        for batch in work.batches:
            state = self._bucket_state(index, batch.bucket)
            batch.load(state)
            output = self._precondition(batch, step, self.param_groups[index])
            outputs.append(output.to(batch.grads.dtype))
            batch.store(state)
        return work.scatter(outputs)

    def _apply(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        states: list[dict[str, Any]],
        updates: list[Tensor],
    ) -> None:
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        if weight_decay != 0 and group["weight_decay_rule"] == "l2":
            torch._foreach_add_(updates, parameters, alpha=weight_decay)
        elif weight_decay != 0:
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        if group["momentum"] != 0:
            buffers = [state["momentum_buffer"] for state in states]
            rule = MOMENTUM_RULES[group["momentum_rule"]]
            updates = rule(buffers, updates, group["momentum"])
        torch._foreach_add_(parameters, updates, alpha=-lr)

    # ---- roots ----------------------------------------------------------------------------------

    def _refresh_roots(self, index: int, work: Workspace, step: int) -> None:
        """Compute the roots that are due, all factors of one size in one batch."""
        group = self.param_groups[index]
        due = self._positions_due(group, work.active, step)
        jobs: dict[int, list[tuple[dict[str, Any], int, float, list[int] | None]]] = {}
        if not due:
            return
        for batch in work.batches:
            rows: list[int] | None = batch.bucket.rows(due)
            if not rows:
                continue
            rows = None if len(rows) == batch.bucket.num_blocks else rows
            exponent = self._exponent(batch.bucket.num_modes, group)
            state = self._bucket_state(index, batch.bucket)
            for mode in self._modes_due(batch, group):
                n = batch.bucket.shape[mode]
                jobs.setdefault(n, []).append((state, mode, exponent, rows))
        for same_size in jobs.values():
            self._compute_roots(same_size, group)
        for position in due:
            self.state[group["params"][position]]["root_step"] = step

    def _compute_roots(
        self,
        jobs: Sequence[tuple[dict[str, Any], int, float, list[int] | None]],
        group: dict[str, Any],
    ) -> None:
        dtype = DTYPES[group["root_dtype"]]
        factors = [
            (state[f"factor_{mode}"] if rows is None else state[f"factor_{mode}"][rows]).to(dtype)
            for state, mode, _, rows in jobs
        ]
        counts = [len(factor) for factor in factors]
        exponents = torch.tensor([job[2] for job in jobs], dtype=dtype).repeat_interleave(
            torch.tensor(counts)
        )
        stacked = torch.cat(factors) if len(factors) > 1 else factors[0]
        power = self._power(stacked, exponents.to(stacked.device), group)
        num_failed = int(power.failed.sum())
        self.state["shared"]["fallbacks"] += num_failed + power.num_retries
        parts = (x.split(counts) for x in (power.power, power.eigenvalues, power.failed))
        for (state, mode, _, rows), root, eigenvalues, failed in zip(jobs, *parts, strict=True):
            where = slice(None) if rows is None else rows
            if num_failed:
                root = torch.where(
                    failed[:, None, None], state[f"root_{mode}"][where].to(dtype), root
                )
            state[f"root_{mode}"][where] = root.to(state[f"root_{mode}"].dtype)
            if eigenvalues.shape[-1]:
                state[f"eigenvalues_{mode}"][where] = eigenvalues

    def _positions_due(self, group: dict[str, Any], active: Sequence[int], step: int) -> list[int]:
        """Parameters whose roots are computed in this step, by the schedule or for the first time.

        from_start: at the first preconditioned step and every `update_freq` from there; a parameter
        that comes later gets its first roots at once. multiples: when update_freq divides the step.
        """
        if group["root_schedule"] == "multiples":
            return list(active) if step % group["update_freq"] == 0 else []
        start = max(group["start_step"], 1)
        if step < start:
            return []
        if (step - start) % group["update_freq"] == 0:
            return list(active)
        states = [self.state[group["params"][position]] for position in active]
        return [p for p, state in zip(active, states, strict=True) if state["root_step"] == NO_ROOT]

    # ---- state ----------------------------------------------------------------------------------

    def _shared_state(self) -> dict[str, Any]:
        shared = self.state["shared"]
        if not shared:
            flat.flat_dtype(self.param_groups)
            shared.update(step=0, fallbacks=0, bounds=[])
        shared["bounds"] += [0.0] * (len(self.param_groups) - len(shared["bounds"]))
        return shared

    def _parameter_state(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[parameter]
        if not state:
            dtype = torch.promote_types(_work_dtype(group), parameter.dtype)
            names = GRAFTS[group["graft"]].accumulators
            names += ("momentum_buffer",) if group["momentum"] != 0 else ()
            for name in names:
                state[name] = torch.zeros_like(parameter, dtype=dtype)
            state["root_step"] = NO_ROOT
        return state

    def _bucket_state(self, index: int, bucket: Bucket) -> dict[str, Any]:
        group = self.param_groups[index]
        state = self.state[f"{index}/{bucket.key}"]
        if not state:
            device = group["params"][0].device
            scale = self._initial_scale(group)
            for mode, n in enumerate(bucket.shape):
                for name, dtype, multiple in (
                    (f"factor_{mode}", "statistics_dtype", scale),
                    (f"root_{mode}", "apply_dtype", 1.0),
                ):
                    identity = torch.eye(n, dtype=DTYPES[group[dtype]], device=device)
                    state[name] = (multiple * identity).repeat(bucket.num_blocks, 1, 1)
                state[f"eigenvalues_{mode}"] = torch.full(
                    (bucket.num_blocks, n), scale, dtype=DTYPES[group["root_dtype"]], device=device
                )
        return state

    def _layout(self, index: int) -> tuple[list[tuple[int, ...]], list[Bucket]]:
        group = self.param_groups[index]
        shapes = [tuple(parameter.shape) for parameter in group["params"]]
        return fill_buckets(shapes, group["block_size"], group["merge_dims"])

    def _workspace(self, index: int, grads: dict[int, Tensor]) -> Workspace:
        work = self._workspaces.get(index)
        if work is None or work.active != tuple(grads):
            group = self.param_groups[index]
            shapes = [tuple(parameter.shape) for parameter in group["params"]]
            device = group["params"][0].device
            work = Workspace(shapes, *self._layout(index), tuple(grads), _work_dtype(group), device)
            self._workspaces[index] = work
        return work

    # ---- guards ---------------------------------------------------------------------------------

    def _norms(self, group: dict[str, Any], grads: dict[int, Tensor]) -> list[Tensor]:
        """Frobenius norm of each gradient, in the working dtype, 0-d."""
        if not grads:
            return []
        return list(torch._foreach_norm(list(grads.values()), 2, _work_dtype(group)))

    def _new_bounds(self, bounds: list[float], norms: list[list[Tensor]]) -> list[float] | None:
        """Bounds on the factors' traces with these gradients, None if the sum is not finite.

        The trace of a mode's Gram matrix is the squared norm of the block, at most that of the
        parameter. One host synchronisation.
        """
        values = iter(torch.stack([norm for found in norms for norm in found]).tolist())
        new = []
        for group, bound, found in zip(self.param_groups, bounds, norms, strict=True):
            squares = [x * x for x in itertools.islice(values, len(found))]
            if squares:
                beta2 = group["beta2"]
                largest = math.nan if any(map(math.isnan, squares)) else max(squares)
                bound = beta2 * bound + (1.0 if beta2 == 1 else 1 - beta2) * largest
                # The Gram matrix itself is computed before it is weighted.
                limit = torch.finfo(DTYPES[group["statistics_dtype"]]).max
                if not max(bound, largest) < limit:
                    return None
            new.append(bound)
        return new

    # ---- telemetry ------------------------------------------------------------------------------

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of each factor as of its last root; nothing before the first root."""
        return []


def _gradients(group: dict[str, Any]) -> dict[int, Tensor]:
    """Gradients of a group by position, of the parameters that have one.

    Raises:
        ValueError: if one is sparse.
    """
    found = {}
    for position, parameter in enumerate(group["params"]):
        grad = parameter.grad
        if grad is not None:
            if grad.layout is not torch.strided:
                raise ValueError(f"gradients must be dense, got layout {grad.layout}")
            found[position] = grad
    return found


def _work_dtype(group: dict[str, Any]) -> torch.dtype:
    """dtype of stacked gradients and updates: wide enough for statistics and application."""
    dtype = torch.promote_types(DTYPES[group["statistics_dtype"]], DTYPES[group["apply_dtype"]])
    return torch.promote_types(dtype, torch.float32)
