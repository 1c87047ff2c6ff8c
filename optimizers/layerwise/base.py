"""Optimizers that precondition each layer's gradient, in front of momentum."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from optimizers.base import PreconditionedOptimizer, require
from optimizers.capture.record import Layer, Recording, find_layers, record_calls
from optimizers.common.gradients import gradients, require_real
from optimizers.layerwise.buckets import Bucket, Group, add_to_buckets, names_of


class LayerwiseOptimizer(PreconditionedOptimizer):
    """Abstract: v <- momentum v + D, x <- (1 - lr weight_decay) x - lr v, D made layer by layer.

    Parameters that belong to no layer (norms, biases without their weight, weights with fewer than
    two dimensions or of several modules) have D = g: plain momentum. `describe` lists them.

    Subclasses give `layer_kinds` (what can be preconditioned, in words), `_wants`, `_digest` (what
    becomes of a recorded pass) and `_directions`.
    State: `state[parameter]["momentum_buffer"]` in the parameter's dtype, float32 at least, if
    momentum > 0; `state["shared"]` with the number of steps and of fallbacks; that of a bucket of
    layers under the bucket's key.

    Args:
        params: parameters or groups.
        model: the module that owns them; its layers are recorded.
        defaults: options of a group.
    Raises:
        ValueError: if `model` is no module.
    """

    needs_model = True
    layer_kinds: ClassVar[str]

    def __init__(self, params: Iterable[Any], model: nn.Module, defaults: Group) -> None:
        module = isinstance(model, nn.Module)
        require(module, "model", "the torch.nn.Module that is trained", type(model).__name__)
        self.model = model
        self.buckets: list[Bucket] = []
        self._built = self._recorded = False
        self._pending: dict[Any, Any] = {}
        super().__init__(params, defaults)
        self._built = True
        self._add_layers(0)

    @abstractmethod
    def _wants(self, bucket: Bucket) -> bool:
        """Whether the coming step needs samples of the bucket's layers."""

    @abstractmethod
    def _digest(self, bucket: Bucket, recording: Recording) -> None:
        """Add a recorded pass to `_pending`, for the coming step; little of it may stay alive."""

    @abstractmethod
    def _directions(self, work: list[tuple[Bucket, list[int], Tensor]]) -> list[Tensor] | None:
        """Directions D (A, m, n) of the buckets' active layers, from their gradients (A, m, n).

        Commits its statistics; None, with nothing committed, where they would not be finite.
        """

    def __getstate__(self) -> dict[str, Any]:
        # torch keeps only groups and state.
        own = ("model", "buckets", "_built", "_recorded", "_pending")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def add_param_group(self, param_group: Group) -> None:
        super().add_param_group(param_group)
        if self._built:
            self._add_layers(len(self.param_groups) - 1)

    def describe(self) -> dict[str, list[str]]:
        """Names of the layers that are preconditioned, and of parameters with plain momentum."""
        taken = {id(p) for b in self.buckets for layer in b.layers for p in layer.parameters}
        names = names_of(self.param_groups, self.model)
        return {
            "preconditioned": [name for bucket in self.buckets for name in bucket.names],
            "plain": [name for key, name in names.items() if key not in taken],
        }

    def wants_samples(self) -> bool:
        """Whether the coming step renews the curvature: `record` the passes before it."""
        return any(self._wants(bucket) for bucket in self.buckets)

    @contextlib.contextmanager
    def record(self, num_samples: int, batch_dim: int, weights: Tensor) -> Iterator[None]:
        """Record a forward and backward pass; see `RecordsSamples`. Several a step add up.

        Raises:
            ValueError: if `weights` has not num_samples numbers, or a layer that the loss depends
                on cannot be recorded; names the layer's module.
        """
        wanting = [bucket for bucket in self.buckets if self._wants(bucket)]
        layers = [layer for bucket in wanting for layer in bucket.layers]
        with record_calls(layers, num_samples, batch_dim, weights) as recording:
            yield
        try:
            # Autocast would multiply statistics in bfloat16.
            device = self.param_groups[0]["params"][0].device
            with torch.no_grad(), torch.autocast(device.type, enabled=False):
                for bucket in wanting:
                    self._digest(bucket, recording)
        except ValueError:
            self._pending.clear()
            raise
        self._recorded = True

    def gathered(self, bucket: Bucket, index: int) -> Any:
        """What `_digest` has kept of one layer, under (key, index).

        Raises:
            ValueError: if its module was not called in the recorded passes, though its weight has
                a gradient.
        """
        gathered = self._pending.get((bucket.key, index))
        if gathered is None:
            path = bucket.layers[index].path or "the model"
            raise ValueError(
                f"{path} must be called inside optimizer.record(...) in the pass that gives "
                f"{bucket.names[index]} its gradient, got a gradient and no call"
            )
        return gathered

    def _update(self) -> None:
        try:
            self._attempt()
        finally:
            self._pending.clear()
            self._recorded = False

    def _attempt(self) -> None:
        """One step, or a fallback; `_pending` may be used up."""
        shared = self.state["shared"]
        if not shared:
            shared.update(steps=0, fallbacks=0)
        found = [grad for own in gradients(self.param_groups) for grad in own.values()]
        found = [grad for grad in found if grad.numel() > 0]
        if not found:
            return
        work = []
        for bucket in self.buckets:
            active = bucket.active()
            if not active:
                continue
            if self._wants(bucket) and not self._recorded:
                raise ValueError(
                    f"step {shared['steps']} must follow a pass inside optimizer.record("
                    f"num_samples, batch_dim, weights), as wants_samples() said: the curvature of "
                    f"{bucket.names[0]} is to be renewed, got no record"
                )
            G = bucket.gradients(self._dtype(bucket))
            work.append((bucket, active, G if len(active) == len(G) else G[active]))
        # One host synchronisation; the square of no float32 overflows in float64.
        norms = torch._foreach_norm(found, 2, torch.float64)
        finite = bool(torch.stack(norms).isfinite().all())
        directions = self._directions(work) if finite else None
        if directions is None:
            shared["fallbacks"] += 1
            return
        shared["steps"] += 1
        self._descend(work, directions)

    def _descend(self, work: list[tuple[Bucket, list[int], Tensor]], D: list[Tensor]) -> None:
        """Momentum, weight decay and the step itself, in place."""
        updates: dict[Tensor, Tensor] = {}
        for (bucket, active, _), directions in zip(work, D, strict=True):
            picked = Bucket(bucket.key, bucket.index, [bucket.layers[i] for i in active], [])
            updates.update(picked.split(directions))
        for group in self.param_groups:
            lr, momentum, decay = float(group["lr"]), float(group["momentum"]), self._decay(group)
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            steps = [updates.get(p, p.grad).to(_at_least_float32(p.dtype)) for p in params]
            if momentum:
                buffers = [self._buffer(p) for p in params]
                torch._foreach_mul_(buffers, momentum)
                torch._foreach_add_(buffers, steps)
                steps = buffers
            if decay:
                torch._foreach_mul_(params, 1 - lr * decay)
            torch._foreach_add_(params, steps, alpha=-lr)

    def _decay(self, group: Group) -> float:
        """Coefficient of the decoupled weight decay."""
        return float(group["weight_decay"])

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            dtype = _at_least_float32(parameter.dtype)
            state["momentum_buffer"] = torch.zeros_like(parameter, dtype=dtype)
        return state["momentum_buffer"]

    def _dtype(self, bucket: Bucket) -> torch.dtype:
        """dtype in which the bucket's gradients are multiplied."""
        return _at_least_float32(bucket.layers[0].weight.dtype)

    def _layers(self, parameters: list[Tensor]) -> list[Layer]:
        """Layers to precondition among these parameters."""
        return find_layers(self.model, parameters)

    def momenta(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield (name, "momentum", tensor) of every parameter that has a buffer."""
        names = names_of(self.param_groups, self.model)
        for group in self.param_groups:
            for parameter in group["params"]:
                buffer = self.state.get(parameter, {}).get("momentum_buffer")
                if buffer is not None:
                    yield names[id(parameter)], "momentum", buffer

    def _add_layers(self, first_group: int) -> None:
        groups = self.param_groups[first_group:]
        parameters = [p for group in groups for p in group["params"]]
        require_real(self.param_groups)
        layers = self._layers(parameters)
        add_to_buckets(self.buckets, layers, self.param_groups, self.model)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
