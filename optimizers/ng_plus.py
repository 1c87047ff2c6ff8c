"""NG+ [Yang et al. 2021]: the mean of per-sample G G^T, inverted, times the gradient matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from optimizers.base import DTYPES, dtype_name
from optimizers.capture.record import Recording
from optimizers.layerwise import ng_plus_state as curvature
from optimizers.layerwise.base import LayerwiseOptimizer
from optimizers.layerwise.buckets import Bucket
from optimizers.layerwise.ng_plus_curvature import Gathered, Side, draw_columns
from optimizers.layerwise.ng_plus_options import check_options
from optimizers.layerwise.ng_plus_state import State
from optimizers.linalg.sketch import draw_rows
from optimizers.telemetry import Spectrum


class NGPlus(LayerwiseOptimizer):
    """NG+: natural gradient with the Fisher matrix of gradients as matrices.

    For each layer's matrix Theta = [W b], m x n, with per-sample gradients G_i (weights of more
    dimensions are matrices of their first; a bias is one more column):

        L = mean_i G_i G_i^T   (m <= n)     or     R = mean_i G_i^T G_i   (m > n)       (4) (5)
        D = (L + damping I)^-1 G            or     D = G (R + damping I)^-1             (6)
        v <- momentum v + D,   Theta <- (1 - lr weight_decay) Theta - lr v              (7)

    L and its inverse are renewed every `update_freq` steps, with the damping of that step, and
    kept in between. Variants: the average L <- beta2 L + (1 - beta2) L_new (11), the first taken
    whole; `statistic="minibatch"`, L <- beta2 L + gamma G G^T from L = initial I, at every step
    from the gradient itself (12); with beta2 = gamma = 1 and `radius` the online method (19),
    where Theta is then projected onto |Theta|_F <= radius in the norm of L, as the proof needs;
    `method="low_rank"` (14) for layers with fewer samples than rows and one position a sample;
    `sketch_size` q: q rows of the system in (16) where that holds, else q columns of G_i (17);
    `block_size`: diagonal blocks of L (18).

        optimizer = NGPlus(model.parameters(), model=model, lr=0.1)
        for x, y in batches:
            optimizer.zero_grad()
            weights = torch.full((len(x),), 1 / len(x))     # of each sample in the loss
            with optimizer.record(num_samples=len(x), batch_dim=0, weights=weights):
                F.cross_entropy(model(x), y).backward()
            optimizer.step()                # `wants_samples()` says when recording is needed

    Departure from the paper: (14) gets the factor 1 / damping that is missing there, and in (19)
    the gradient's transpose is on the right side for a left preconditioner. With BatchNorm a
    sample's gradient depends on the others; what is taken then is the product of its activations
    and output gradients, as in the authors' code. Norms and all that is no matrix of a module get
    plain momentum (`describe`). A layer without a statistic counts L = 0.

    Memory: per layer 2 k^2 values (statistic and inverse), k the smaller of m and n, blocks of p:
    2 k p; low rank: k b + b^2 for b samples; and a momentum buffer for each parameter.

    Args:
        params: parameters or groups; a layer takes its options from the group of its weight.
        model: the module that owns them.
        lr, weight_decay: >= 0; the decay is decoupled.
        momentum: in [0, 1).
        damping: added to the spectrum; units of squared gradient; > 0, or 0 if beta2 = 1 and
            initial > 0.
        update_freq: steps from one renewal to the next.
        statistic: "samples" or "minibatch".
        beta2: share of the old statistic that stays: in [0, 1), for "minibatch" in [0, 1].
        gamma: weight of the new one in (12); > 0.
        initial: L_0 = initial I in (12); >= 0.
        radius: of the ball in (19); None: no projection.
        side: "smaller", "left" or "right".
        method: "dense" or "low_rank".
        block_size, sketch_size: p and q; None: none. Layers of low rank have no blocks.
        curvature_samples: so many samples of a step count, the first ones, or all where there are
            fewer; None: all.
        sample: "sequence" sums the gradient over a sample's positions, "token" takes each
            position of a linear, recurrent or embedding layer for a sample.
        seed: of the sketches, which depend on it, the step and the layer alone.
        statistics_dtype: float32, float64 or bfloat16, as dtype or name.
        root_dtype: of the inversion, float32 or float64.
        apply_dtype: of the inverse as kept, and its products.
    Raises:
        ValueError: on a value outside these ranges; in `step` if curvature is to be renewed and
            no pass was recorded.
    """

    numerics_version = 1
    layer_kinds = "weights of two or more dimensions, norms apart"

    def __init__(
        self,
        params: Iterable[Any],
        model: nn.Module,
        lr: float = 1e-2,
        momentum: float = 0.9,
        damping: float = 0.16,
        weight_decay: float = 0.0,
        update_freq: int = 500,
        statistic: str = "samples",
        beta2: float = 0.0,
        gamma: float = 1.0,
        initial: float = 0.0,
        radius: float | None = None,
        side: str = "smaller",
        method: str = "dense",
        block_size: int | None = None,
        sketch_size: int | None = None,
        curvature_samples: int | None = None,
        sample: str = "sequence",
        seed: int = 0,
        statistics_dtype: torch.dtype | str = "float32",
        root_dtype: torch.dtype | str = "float32",
        apply_dtype: torch.dtype | str = "float32",
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "damping": damping,
            "weight_decay": weight_decay,
            "update_freq": update_freq,
            "statistic": statistic,
            "beta2": beta2,
            "gamma": gamma,
            "initial": initial,
            "radius": radius,
            "side": side,
            "method": method,
            "block_size": block_size,
            "sketch_size": sketch_size,
            "curvature_samples": curvature_samples,
            "sample": sample,
            "seed": seed,
            "statistics_dtype": dtype_name(statistics_dtype, "statistics_dtype"),
            "root_dtype": dtype_name(root_dtype, "root_dtype", ("float32", "float64")),
            "apply_dtype": dtype_name(apply_dtype, "apply_dtype"),
        }
        super().__init__(params, model, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        check_options(options)

    def spectra(self) -> list[Spectrum]:
        """Eigenvalues of each layer's L or R, those of U^T U where it is kept as U U^T."""
        shared = self.state.get("shared", {})
        return [
            spectrum
            for bucket in self.buckets
            if bucket.key in self.state
            for spectrum in curvature.spectra_of(
                bucket, self.state[bucket.key], self._side(bucket), shared
            )
        ]

    def matrices(self) -> Iterator[tuple[str, str, Tensor]]:
        """Yield (name, quantity, tensor): statistic and root of each layer, and momenta."""
        for bucket in self.buckets:
            if bucket.key in self.state:
                yield from curvature.matrices_of(bucket, self.state[bucket.key])
        yield from self.momenta()

    def _due(self, bucket: Bucket) -> bool:
        """Whether the coming step makes new inverses."""
        step = self.state.get("shared", {}).get("steps", 0)
        freq = self.param_groups[bucket.index]["update_freq"]
        return bucket.key not in self.state or step % freq == 0

    def _wants(self, bucket: Bucket) -> bool:
        return self.param_groups[bucket.index]["statistic"] == "samples" and self._due(bucket)

    def _digest(self, bucket: Bucket, recording: Recording) -> None:
        group, side = self.param_groups[bucket.index], self._side(bucket)
        dtype = torch.promote_types(DTYPES[group["statistics_dtype"]], torch.float32)
        for index, layer in enumerate(bucket.layers):
            gathered = self._pending.get((bucket.key, index), Gathered())
            limit = group["curvature_samples"]
            if limit is not None:
                limit -= gathered.num_seen
            chunks = recording.of(layer, limit, dtype)
            if chunks is None:
                continue
            self._pending[bucket.key, index] = gathered
            gathered.add(
                chunks,
                side,
                by_position=group["sample"] == "token",
                keep_pairs=group["method"] == "low_rank",
                columns=self._columns(bucket),
            )

    def _directions(self, work: list[tuple[Bucket, list[int], Tensor]]) -> list[Tensor] | None:
        plans = [self._renewed(*item) for item in work]
        new = [p for p, (b, *_) in zip(plans, work, strict=True) if p is not self.state.get(b.key)]
        if new and not bool(curvature.is_finite(new)):
            return None
        shared = self.state["shared"]
        for k, (bucket, active, _) in enumerate(work):
            if self._due(bucket):
                damping = float(self.param_groups[bucket.index]["damping"])
                rest = (damping, shared["steps"], self._dtypes(bucket))
                if "basis" in plans[k]:
                    old = self.state.get(bucket.key)
                    plans[k], num_fallbacks = curvature.with_core(plans[k], old, *rest)
                    if plans[k] is None:
                        return None
                else:
                    plans[k], num_fallbacks = curvature.with_inverse(plans[k], active, *rest)
                shared["fallbacks"] += num_fallbacks
        directions = []
        for (bucket, active, G), plan in zip(work, plans, strict=True):
            self.state[bucket.key] = plan
            side = self._side(bucket)
            D = side.turn(curvature.apply(plan, side, side.turn(G), active))
            directions.append(D.to(G.dtype))
        return directions

    def _renewed(self, bucket: Bucket, active: list[int], G: Tensor) -> State:
        """The bucket's state with its statistics as of this step."""
        group, side = self.param_groups[bucket.index], self._side(bucket)
        damping, initial = float(group["damping"]), float(group["initial"])
        state = self.state.get(bucket.key) or curvature.initial_state(
            len(bucket.layers), side, initial, damping, self._dtypes(bucket), G.device
        )
        beta2 = group["beta2"]
        if group["statistic"] == "minibatch":
            X, columns = side.turn(G), self._columns(bucket)
            if columns is not None:
                X = X[..., columns[0].to(X.device)] * columns[1]
            old = curvature.picked(state["factor"], active).to(X.dtype)
            new = beta2 * old + group["gamma"] * side.gram(X)
            return curvature.with_factor(state, side, active, new)
        if not self._due(bucket):
            return state
        gathered = [self.gathered(bucket, index) for index in active]
        same = len({g.count for g in gathered}) == 1 and len(active) == len(bucket.layers)
        if same and all(g.is_low_rank(side) for g in gathered):
            U = torch.stack([g.basis(side) for g in gathered])
            rest = {"damping": damping, "refreshed": state["refreshed"]}
            rows = self._rows(bucket)
            rest |= {} if rows is None else {"rows": rows.to(U.device)}
            return {"basis": U.to(self._dtypes(bucket)["statistics"]), **rest}
        new = torch.stack([g.mean(side) for g in gathered])
        if beta2 > 0:
            first = torch.tensor([state["refreshed"][i] < 0 for i in active], device=new.device)
            old = curvature.dense_factor(state, side)[active].to(new.dtype)
            new = torch.where(first[:, None, None, None], new, beta2 * old + (1 - beta2) * new)
        return curvature.with_factor(state, side, active, new)

    def _descend(self, work: list[tuple[Bucket, list[int], Tensor]], D: list[Tensor]) -> None:
        super()._descend(work, D)
        for bucket, active, _ in work:
            radius = self.param_groups[bucket.index]["radius"]
            if radius is None:
                continue
            side, values = self._side(bucket), bucket.values(self._dtype(bucket))
            state = self.state[bucket.key]
            X = curvature.projected(state, side, side.turn(values), active, radius)
            for i, (parameter, value) in enumerate(bucket.split(side.turn(X))):
                if i // len(bucket.layers[0].parameters) in active:
                    parameter.copy_(value)

    def _side(self, bucket: Bucket) -> Side:
        group = self.param_groups[bucket.index]
        return Side.of(bucket.shape, group["side"], group["block_size"])

    def _columns(self, bucket: Bucket) -> tuple[Tensor, float] | None:
        """Columns of (17) in this step, and their factor."""
        m, n = bucket.shape
        count = n if self._side(bucket).left else m
        size = self.param_groups[bucket.index]["sketch_size"]
        return draw_columns(count, size, *self._counters(bucket))

    def _rows(self, bucket: Bucket) -> Tensor | None:
        """Rows of (16), shape (N, q); None to take all."""
        size, k = self.param_groups[bucket.index]["sketch_size"], self._side(bucket).size
        if size is None or size >= k:
            return None
        counters = self._counters(bucket)
        return torch.stack([draw_rows(k, size, *counters, i) for i in range(len(bucket.layers))])

    def _counters(self, bucket: Bucket) -> tuple[int, int, int]:
        seed = self.param_groups[bucket.index]["seed"]
        return seed, self.state.get("shared", {}).get("steps", 0), self.buckets.index(bucket)

    def _dtype(self, bucket: Bucket) -> torch.dtype:
        return torch.promote_types(super()._dtype(bucket), self._dtypes(bucket)["statistics"])

    def _dtypes(self, bucket: Bucket) -> dict[str, torch.dtype]:
        group = self.param_groups[bucket.index]
        return {use: DTYPES[group[f"{use}_dtype"]] for use in ("statistics", "root", "apply")}
