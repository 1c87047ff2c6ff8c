"""What optimizers with one small matrix a mode share: blocks, schedule, grafting, momentum."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from optimizers.base import DTYPES, PreconditionedOptimizer
from optimizers.common import flat
from optimizers.common.gradients import gradient_norms, gradients, new_bounds
from optimizers.common.momentum import MOMENTUM_RULES, START_RULES
from optimizers.kronecker.buckets import Batch, Bucket, Workspace, fill_buckets, new_state
from optimizers.kronecker.grafting import GRAFTS, rescale_
from optimizers.kronecker.options import check_kronecker_options, with_dtype_names, work_dtype
from optimizers.kronecker.roots import NO_ROOT, ROOT_METHODS, RootJob, compute_roots, positions_due
from optimizers.kronecker.spectra import factor_matrices, factor_spectra
from optimizers.linalg.kron import multiply_modes
from optimizers.linalg.powers import Power
from optimizers.telemetry import Spectrum, parameter_names


class KroneckerOptimizer(PreconditionedOptimizer):
    """Abstract base: a factor a mode of each block, whose powers are applied mode by mode.

    A step, on each block G of each gradient (see `optimizers.linalg.blocking`):

        S_i <- its statistic            `_accumulate`
        P_i <- S_i^exponent             `_power`, when due
        U    = G x_1 P_1 ... x_k P_k    `_precondition`

    then per parameter grafting, weight decay, momentum and x <- x - lr m. Steps count from 1 over
    all groups; skipped ones do not count. Subclasses give these methods as far as they differ,
    `_exponent`, and the options of `optimizers.kronecker.options`.

    State. `state["<group>/<n_1>x<n_2>"]`: all blocks of one shape in a group, stacked: `factor_i`
    and `root_i`, shape (N, n_i, n_i), and `eigenvalues_i`, shape (N, n_i), of the last root, zeros
    where they are not known.
    `state[parameter]`: `momentum_buffer`, the graft's accumulators, `root_step`, at which its roots
    were last computed. `state["shared"]`: `step`, `fallbacks`, and for each group a bound on the
    trace of its factors, so that what would overflow is known before it is added.
    One host synchronisation a step, for the norms of the gradients; one more a size of factors in
    steps that compute roots.
    """

    # Kind of matrix that the spectra report.
    factor_kind: ClassVar[str] = "factor"

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self._workspaces: dict[int, Workspace] = {}
        super().__init__(params, with_dtype_names(defaults))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._workspaces = {}

    @abstractmethod
    def _exponent(self, num_modes: int, options: dict[str, Any]) -> float:
        """Signed exponent of each factor of a block with `num_modes` modes."""

    @abstractmethod
    def _accumulate(self, batch: Batch, step: int, options: dict[str, Any]) -> None:
        """Renew the factors `batch.state["factor_i"]` in place from `batch.grads`.

        `batch.grads` may be replaced by what `_precondition` is to start from.
        """

    def _power(self, factors: Tensor, exponent: float, options: dict[str, Any]) -> Power:
        """Raise factors (N, n, n), in the root dtype, to the exponent."""
        method = ROOT_METHODS[options["root_method"]]
        return method(factors, exponent, self._root_damping(options), options["floor"])

    def _root_damping(self, options: dict[str, Any]) -> float:
        """Added to the eigenvalues of a factor when its root is taken."""
        return options["damping"]

    def _precondition(self, batch: Batch, step: int, options: dict[str, Any]) -> Tensor:
        """The update's blocks, shape of `batch.grads`, which may be overwritten."""
        roots = [batch.state[f"root_{mode}"] for mode in range(batch.bucket.num_modes)]
        dtype = DTYPES[options["apply_dtype"]]
        spare = batch.spare if dtype == batch.grads.dtype else None
        return multiply_modes(batch.grads.to(dtype), roots, spare)

    def _modes_due(
        self, bucket: Bucket, state: dict[str, Any], options: dict[str, Any]
    ) -> Iterable[int]:
        """Modes whose roots are computed when a bucket's turn has come; asked once each time."""
        return range(bucket.num_modes)

    def _rows_due(self, bucket: Bucket, positions: list[int], options: dict[str, Any]) -> list[int]:
        """Rows whose roots are computed when the turn of the parameters at `positions` has come."""
        return bucket.rows(positions)

    def _new_bounds(self, bounds: list[float], norms: list[list[Tensor]]) -> list[float] | None:
        """Bounds on the factors of each group with these gradients, None to skip the step."""
        return new_bounds(self.param_groups, bounds, norms)

    def _check(self, options: dict[str, Any]) -> None:
        check_kronecker_options(options)

    def spectra(self) -> list[Spectrum]:
        """Each factor, "weight[0].mode1" for the second mode of the first block of a parameter."""
        parts = []
        for index, bucket, names, state in self._named_buckets():
            group = self.param_groups[index]
            found = factor_spectra(
                bucket,
                state,
                names,
                [self.state.get(p, {}).get("root_step", NO_ROOT) for p in group["params"]],
                kind=self.factor_kind,
                exponent=self._exponent(bucket.num_modes, group),
                damping=self._root_damping(group),
                step=self.state["shared"]["step"],
                fallbacks=self.state["shared"]["fallbacks"],
            )
            parts += [(index, *part) for part in found]
        return [part[-1] for part in sorted(parts, key=lambda part: part[:4])]

    def matrices(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield (name, quantity, tensor) of each factor, root and momentum; see ReportsMatrices."""
        for _, bucket, names, state in self._named_buckets():
            yield from factor_matrices(bucket, state, names)
        names, params = parameter_names(self.param_groups), flat.all_parameters(self.param_groups)
        for name, parameter in zip(names, params, strict=True):
            if "momentum_buffer" in self.state.get(parameter, {}):
                yield name, "momentum", self.state[parameter]["momentum_buffer"]

    def _named_buckets(self) -> Iterator[tuple[int, Bucket, list[str], dict[str, Any]]]:
        """Yield each bucket that has a state, after its group's number, with parameter names."""
        names = iter(parameter_names(self.param_groups))
        for index, group in enumerate(self.param_groups):
            own = [next(names) for _ in group["params"]]
            for bucket in self._layout(index)[1]:
                state = self.state.get(f"{index}/{bucket.key}")
                if state is not None:
                    yield index, bucket, own, state

    def _update(self) -> None:
        shared = self._shared_state()
        grads = gradients(self.param_groups)
        if not any(grads):
            return
        pairs = zip(self.param_groups, grads, strict=True)
        norms = [gradient_norms(list(found.values()), work_dtype(group)) for group, found in pairs]
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
        work = self._workspace(index, grads)
        states = [self._parameter_state(group["params"][i], group) for i in grads]
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
            updates = [d.to(work_dtype(group), copy=True) for d in directions]
        else:
            updates = self._preconditioned(index, work, step)
            wanted = graft.norms(directions, norms)
            if wanted is not None:
                rescale_(updates, wanted)
        self._apply(group, [group["params"][i] for i in grads], states, updates)

    def _preconditioned(self, index: int, work: Workspace, step: int) -> list[Tensor]:
        """The update of each parameter with a gradient, in the working dtype."""
        outputs = []
        for batch in work.batches:
            batch.load(self._bucket_state(index, batch.bucket))
            output = self._precondition(batch, step, self.param_groups[index])
            outputs.append(output.to(batch.grads.dtype))
        return work.scatter(outputs)

    def _apply(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        states: list[dict[str, Any]],
        updates: list[Tensor],
    ) -> None:
        """Add weight decay and momentum and take the step, parameters in place."""
        lr, weight_decay = float(group["lr"]), float(group["weight_decay"])
        momentum, rule = float(group["momentum"]), MOMENTUM_RULES[group["momentum_rule"]]
        if self.state["shared"]["step"] < group["start_step"]:
            rule = START_RULES[group["start_rule"]] or rule
        if weight_decay != 0 and group["weight_decay_rule"] == "l2":
            torch._foreach_add_(updates, parameters, alpha=weight_decay)
        elif weight_decay != 0:
            torch._foreach_mul_(parameters, 1 - lr * weight_decay)
        if momentum != 0:
            updates = rule([state["momentum_buffer"] for state in states], updates, momentum)
        torch._foreach_add_(parameters, updates, alpha=-lr)

    def _refresh_roots(self, index: int, work: Workspace, step: int) -> None:
        group = self.param_groups[index]
        states = {i: self.state[group["params"][i]] for i in work.active}
        last = [state["root_step"] for state in states.values()]
        due = positions_due(group, work.active, last, step)
        if not due:
            return
        jobs = []
        for batch in work.batches:
            bucket, state = batch.bucket, self._bucket_state(index, batch.bucket)
            rows = self._rows_due(bucket, due, group)
            if rows:
                exponent = self._exponent(bucket.num_modes, group)
                where = range(bucket.num_blocks) if len(rows) == bucket.num_blocks else rows
                modes = self._modes_due(bucket, state, group)
                jobs += [RootJob(state, mode, exponent, where) for mode in modes]
        self.state["shared"]["fallbacks"] += compute_roots(
            jobs,
            lambda factors, exponent: self._power(factors, exponent, group),
            DTYPES[group["root_dtype"]],
        )
        for position in due:
            states[position]["root_step"] = step

    def _shared_state(self) -> dict[str, Any]:
        shared = self.state["shared"]
        if not shared:
            flat.flat_dtype(self.param_groups)
            shared.update(step=0, fallbacks=0, bounds=[])
        shared["bounds"] += [0.0] * (len(self.param_groups) - len(shared["bounds"]))
        return shared

    def _parameter_state(self, parameter: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        state = self.state[parameter]
        state.setdefault("root_step", NO_ROOT)
        names = GRAFTS[group["graft"]].accumulators
        for name in names + (("momentum_buffer",) if group["momentum"] != 0 else ()):
            if name not in state:
                dtype = torch.promote_types(work_dtype(group), parameter.dtype)
                state[name] = torch.zeros_like(parameter, dtype=dtype)
        return state

    def _bucket_state(self, index: int, bucket: Bucket) -> dict[str, Any]:
        state = self.state[f"{index}/{bucket.key}"]
        if not state:
            group = self.param_groups[index]
            state.update(new_state(bucket, group, group["params"][0].device))
        return state

    def _layout(self, index: int) -> tuple[list[tuple[int, ...]], list[Bucket]]:
        group = self.param_groups[index]
        shapes = [tuple(parameter.shape) for parameter in group["params"]]
        return fill_buckets(shapes, group["block_size"], group["merge_dims"])

    def _workspace(self, index: int, grads: dict[int, Tensor]) -> Workspace:
        work = self._workspaces.get(index)
        if work is None or work.active != tuple(grads):
            flat.flat_dtype(self.param_groups)
            group = self.param_groups[index]
            shapes = [tuple(parameter.shape) for parameter in group["params"]]
            like = {"dtype": work_dtype(group), "device": group["params"][0].device}
            work = Workspace(shapes, *self._layout(index), tuple(grads), like)
            self._workspaces[index] = work
        return work
