"""K-FAC: Kronecker-factored natural gradient [Martens and Grosse 2015; Grosse and Martens 2016]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from optimizers.base import DTYPES, dtype_name, require_common, require_count, require_number
from optimizers.capture.record import Layer, Recording
from optimizers.layerwise import kfac_factors as factors
from optimizers.layerwise.base import Bucket, LayerwiseOptimizer
from optimizers.layerwise.kfac_factors import Sums
from optimizers.telemetry import Spectrum

Group = dict[str, Any]
Work = list[tuple[Bucket, list[int], Tensor]]


class KFAC(LayerwiseOptimizer):
    """K-FAC for linear layers and convolutions, in front of momentum.

    For each layer's matrix W (a bias is one more column), with inputs a_it and gradients d_it of
    sample i's own loss by the outputs at position t of T (T = 1 for a plain linear layer):

        A <- beta2 A + (1 - beta2) (1/B) sum_it a_it a_it^T
        G <- beta2 G + (1 - beta2) (1/(B T)) sum_it d_it d_it^T            the first taken whole
        pi = [(tr A / n) / (tr G / m)]^{1/2}
        D = (G + damping^{1/2} / pi I)^{-1} (gradient of W) (A + pi damping^{1/2} I)^{-1}
        v <- momentum v + D,   W <- (1 - lr weight_decay) W - lr v

    [Martens and Grosse 2015, sections 3 and 6.3; Grosse and Martens 2016 for convolutions;
    positions of a sequence count as those of an image]. A and G are renewed from the recorded pass
    every `statistics_freq` steps, the inverses every `update_freq`, with the damping of that step.

        optimizer = KFAC(model.parameters(), model=model, lr=0.01)
        for x, y in batches:
            optimizer.zero_grad()
            weights = torch.full((len(x),), 1 / len(x))     # of each sample in the loss
            with optimizer.record(num_samples=len(x), batch_dim=0, weights=weights):
                F.cross_entropy(model(x), y).backward()
            optimizer.step()                # `wants_samples()` says when recording is needed

    Departure from the papers: the recorded pass has the batch's labels, not labels drawn from the
    model (the empirical Fisher matrix), and there is no rescaling by the exact quadratic model, but
    lr and momentum, as where K-FAC is a baseline of NG+ [Yang et al. 2021]. Layers of other kinds,
    convolutions with groups and norms get plain momentum: `describe` names them. A layer that has
    no statistics yet has A = I and G = I.

    Memory: 2 (m^2 + n^2) numbers a layer (factors and inverses) and, with momentum, a buffer for
    each parameter.

    Args:
        params: parameters or groups; a layer takes its options from the group of its weight.
        model: the module that owns them.
        lr, weight_decay: >= 0; the decay is decoupled.
        momentum: in [0, 1).
        damping: split over the two factors; units of squared gradient; > 0.
        beta2: share of the old factors that stays, in [0, 1).
        statistics_freq: steps from one renewal of the factors to the next.
        update_freq: steps from one renewal of the inverses to the next.
        statistics_dtype: of the factors: float32, float64 or bfloat16, as dtype or name.
        root_dtype: of the inversion, float32 or float64.
        apply_dtype: of the inverses as kept, and their products.
    Raises:
        ValueError: on a value outside these ranges; in `step` if the factors are to be renewed and
            no pass was recorded.
    """

    numerics_version = 1
    layer_kinds = "linear layers or convolutions without groups (Linear, Conv2d)"

    def __init__(
        self,
        params: Iterable[Any],
        model: nn.Module,
        lr: float = 1e-2,
        momentum: float = 0.9,
        damping: float = 1e-2,
        weight_decay: float = 0.0,
        beta2: float = 0.95,
        statistics_freq: int = 10,
        update_freq: int = 100,
        statistics_dtype: torch.dtype | str = "float32",
        root_dtype: torch.dtype | str = "float32",
        apply_dtype: torch.dtype | str = "float32",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "damping": damping,
            "weight_decay": weight_decay,
            "beta2": beta2,
            "statistics_freq": statistics_freq,
            "update_freq": update_freq,
            "statistics_dtype": dtype_name(statistics_dtype, "statistics_dtype"),
            "root_dtype": dtype_name(root_dtype, "root_dtype", ("float32", "float64")),
            "apply_dtype": dtype_name(apply_dtype, "apply_dtype"),
        }
        super().__init__(params, model, defaults)

    def _check(self, options: Group) -> None:
        require_common({name: value for name, value in options.items() if name != "beta2"})
        require_number(options["beta2"], "beta2", 0, 1)
        require_count(options["statistics_freq"], "statistics_freq")
        for use in ("statistics", "apply"):
            dtype_name(options[f"{use}_dtype"], f"{use}_dtype")
        dtype_name(options["root_dtype"], "root_dtype", ("float32", "float64"))

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of A and G of each layer, without damping; computed when asked."""
        shared = self.state.get("shared", {})
        return [
            spectrum
            for bucket in self.buckets
            if bucket.key in self.state
            for spectrum in factors.spectra_of(bucket.names, self.state[bucket.key], shared)
        ]

    def _layers(self, parameters: list[Tensor]) -> list[Layer]:
        def has_factors(module: nn.Module) -> bool:
            return isinstance(module, nn.Linear) or (
                isinstance(module, nn.Conv2d) and module.groups == 1
            )

        return [layer for layer in super()._layers(parameters) if has_factors(layer.module)]

    def _due(self, bucket: Bucket, frequency: str) -> bool:
        step = self.state.get("shared", {}).get("steps", 0)
        freq = self.param_groups[bucket.index][frequency]
        return bucket.key not in self.state or step % freq == 0

    def _wants(self, bucket: Bucket) -> bool:
        return self._due(bucket, "statistics_freq")

    def _digest(self, bucket: Bucket, recording: Recording) -> None:
        statistics = DTYPES[self.param_groups[bucket.index]["statistics_dtype"]]
        dtype = torch.promote_types(statistics, torch.float32)
        for index, layer in enumerate(bucket.layers):
            if recording.has(layer):
                sums = self._pending.setdefault((bucket.key, index), Sums())
                for samples in recording.samples(layer, dtype=dtype):
                    sums.add(samples.activations, samples.deltas)

    def _directions(self, work: Work) -> list[Tensor] | None:
        plans = [self._renewed(bucket, active, G) for bucket, active, G in work]
        if plans and not factors.are_finite(plans):
            return None
        shared, fallbacks = self.state["shared"], 0
        for k, (bucket, *_) in enumerate(work):
            if self._due(bucket, "update_freq"):
                group = self.param_groups[bucket.index]
                root = DTYPES[group["root_dtype"]]
                plans[k], num_retries = factors.inverted(
                    plans[k], float(group["damping"]), shared["steps"], root
                )
                if plans[k] is None:
                    return None
                fallbacks += num_retries
        shared["fallbacks"] += fallbacks
        directions = []
        for (bucket, active, G), plan in zip(work, plans, strict=True):
            self.state[bucket.key] = plan
            directions.append(factors.apply(plan, active, G))
        return directions

    def _renewed(self, bucket: Bucket, active: list[int], G: Tensor) -> factors.State:
        """The bucket's state with its factors as of this step."""
        group = self.param_groups[bucket.index]
        state = self.state.get(bucket.key)
        if state is None:
            dtypes = (DTYPES[group["statistics_dtype"]], DTYPES[group["apply_dtype"]])
            state = factors.initial_state(len(bucket.layers), bucket.shape, *dtypes, G.device)
        elif not self._due(bucket, "statistics_freq"):
            return state
        means = [self.gathered(bucket, index).means() for index in active]
        return factors.averaged(state, active, means, group["beta2"])
