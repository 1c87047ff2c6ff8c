"""NG+ as its authors' first published code has it: in front of SGD, on two kinds of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from optimizers.base import require_common, require_number
from optimizers.capture.record import Layer, Recording
from optimizers.layerwise import ng_plus_state as curvature
from optimizers.layerwise.base import LayerwiseOptimizer
from optimizers.layerwise.buckets import Bucket, Group
from optimizers.layerwise.ng_plus_curvature import Gathered, Side
from optimizers.telemetry import Spectrum


class NGPlusAuthors(LayerwiseOptimizer):
    """NG+, reading `authors`: a preconditioner of Conv2d and Linear layers in front of SGD.

        L <- (1 - a) L + a L_new,   a = curvature_momentum, the first L taken whole
        L_new = sum_i G_i G_i^T / (B sqrt(area)),   area = output positions of a convolution, or 1
        v <- momentum v + (L + sqrt(damping) I)^-1 G + weight_decay W,   Theta <- Theta - lr v

    always on the left side, the bias an extra column that is not decayed; every `update_freq`
    steps, from the labels of the batch (their path in half precision; the other one drew labels
    from the model). Everything else gets plain momentum without weight decay. A matrix is inverted
    by Cholesky factors, where that code uses LU. With BatchNorm, as there, activations times
    output gradients stand for per-sample gradients, which do not exist.

    Memory: 2 m^2 values a layer of m rows, and a momentum buffer for each parameter; all in the
    parameters' dtype, float32 at least, as there: a reading of their numbers has no other.

    Args:
        params: parameters or groups.
        model: the module that owns them.
        lr, weight_decay: >= 0; the decay is added to the preconditioned gradient.
        momentum: in [0, 1).
        damping: the square of what is added to the spectrum; > 0.
        update_freq: steps from one renewal to the next.
        curvature_momentum: weight of the new statistic, in (0, 1].
    Raises:
        ValueError: on a value outside these ranges; in `step` if curvature is to be renewed and
            no pass was recorded.
    """

    numerics_version = 1
    layer_kinds = "layers of kind Conv2d or Linear"

    def __init__(
        self,
        params: Iterable[Any],
        model: nn.Module,
        lr: float = 0.18,
        momentum: float = 0.9,
        damping: float = 0.16,
        weight_decay: float = 1e-4,
        update_freq: int = 500,
        curvature_momentum: float = 0.99,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "damping": damping,
            "weight_decay": weight_decay,
            "update_freq": update_freq,
            "curvature_momentum": curvature_momentum,
        }
        super().__init__(params, model, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        require_common(options)
        require_number(options["curvature_momentum"], "curvature_momentum", 0, 1, "(]")

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of L of each layer."""
        known = [bucket for bucket in self.buckets if bucket.key in self.state]
        return [
            spectrum
            for bucket in known
            for spectrum in curvature.spectra_of(
                bucket, self.state[bucket.key], _side(bucket), self.state["shared"]
            )
        ]

    def matrices(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield (name, quantity, tensor): statistic and root of each layer, and momenta."""
        for bucket in self.buckets:
            if bucket.key in self.state:
                yield from curvature.matrices_of(bucket, self.state[bucket.key])
        yield from self.momenta()

    def _layers(self, parameters: list[Tensor]) -> list[Layer]:
        kinds = (nn.Conv2d, nn.Linear)
        return [layer for layer in super()._layers(parameters) if isinstance(layer.module, kinds)]

    def _wants(self, bucket: Bucket) -> bool:
        step = self.state.get("shared", {}).get("steps", 0)
        freq = self.param_groups[bucket.index]["update_freq"]
        return bucket.key not in self.state or step % freq == 0

    def _digest(self, bucket: Bucket, recording: Recording) -> None:
        for index, layer in enumerate(bucket.layers):
            chunks = recording.of(layer, dtype=self._dtype(bucket))
            if chunks is not None:
                gathered = self._pending.setdefault((bucket.key, index), Gathered())
                gathered.add(chunks, _side(bucket))

    def _directions(self, work: list[tuple[Bucket, list[int], Tensor]]) -> list[Tensor] | None:
        plans = [self._renewed(bucket, active) for bucket, active, _ in work]
        new = [p for p, (b, *_) in zip(plans, work, strict=True) if p is not self.state.get(b.key)]
        if new and not bool(curvature.is_finite(new)):
            return None
        shared = self.state["shared"]
        directions = []
        for (bucket, active, G), plan in zip(work, plans, strict=True):
            group, side = self.param_groups[bucket.index], _side(bucket)
            state = plan
            if self._wants(bucket):
                shift = math.sqrt(group["damping"])
                state, num_fallbacks = curvature.with_inverse(
                    plan, active, shift, shared["steps"], self._dtypes(bucket)
                )
                shared["fallbacks"] += num_fallbacks
            self.state[bucket.key] = state
            D = curvature.apply(state, side, G, active).to(G.dtype)
            if group["weight_decay"]:
                W = bucket.values(G.dtype)[active]
                if bucket.layers[0].bias is not None:
                    W[..., -1] = 0
                D = D.add(W, alpha=float(group["weight_decay"]))
            directions.append(D)
        return directions

    def _renewed(self, bucket: Bucket, active: list[int]) -> curvature.State:
        """The bucket's state with its statistics as of this step."""
        side, group = _side(bucket), self.param_groups[bucket.index]
        state = self.state.get(bucket.key)
        if state is None:
            device = bucket.layers[0].weight.device
            shift = math.sqrt(group["damping"])
            state = curvature.initial_state(
                len(bucket.layers), side, 0.0, shift, self._dtypes(bucket), device
            )
        if not self._wants(bucket):
            return state
        new = []
        for index in active:
            gathered = self.gathered(bucket, index)
            L, a = gathered.mean(side) / math.sqrt(gathered.area), group["curvature_momentum"]
            known = state["refreshed"][index] >= 0
            new.append((1 - a) * state["factor"][index] + a * L if known else L)
        return curvature.with_factor(state, side, active, torch.stack(new))

    def _dtypes(self, bucket: Bucket) -> dict[str, torch.dtype]:
        return dict.fromkeys(("statistics", "root", "apply"), self._dtype(bucket))

    def _decay(self, group: Group) -> float:
        return 0.0


def _side(bucket: Bucket) -> Side:
    return Side.of(bucket.shape, "left", None)
