"""What the two KrADagrads share: Kronecker factors kept inverted, which shrink as they learn."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from optimizers.base import DTYPES, require, require_choice, require_count, require_number
from optimizers.kronecker.base import KroneckerOptimizer
from optimizers.kronecker.buckets import Workspace
from optimizers.kronecker.roots import positions_due
from optimizers.linalg.krad import T_RULES, capped
from optimizers.linalg.powers import power_by_eigh

# How far a factor may outgrow its ceiling between two roots before it is cut nevertheless.
MAX_EXCESS = 4.0


class InverseFactorOptimizer(KroneckerOptimizer):
    """Abstract base: factors L_i begin as a multiple of the identity and have positive roots.

    Where round-off or an underestimated norm has left a factor indefinite by more than round-off,
    its negative eigenvalues are set to 0 when its root is computed: a fallback. They would double
    with every large gradient otherwise.

    With beta2 < 1 directions without gradient grow by 1 / beta2 a step, and with eq. 13 all of them
    where 1 - A L / t is above beta2. So eigenvalues are cut at `_factor_ceiling` before roots are
    taken, and between them where they may have outgrown it `MAX_EXCESS` times. That takes a
    decomposition and a host synchronisation, but none while a bound on them, renewed with the
    roots, stays below. It is no fallback.

    A step is skipped, a fallback, where the squared norm of some A L could overflow the statistics'
    dtype: gradients beyond 4e9 in float32 from L = I.
    """

    factor_kind = "inverse_factor"

    def _check(self, options: dict[str, Any]) -> None:
        damping, scale, beta2 = (options[x] for x in ("damping", "initial_scale", "beta2"))
        require_number(damping, "damping")
        # 0 switches it off here, which the shared check does not know.
        super()._check({**options, "damping": damping or 1.0})
        require_number(scale, "initial_scale", ends="()")
        # Else L - damping L L^T is not positive in the first step.
        require(damping * scale < beta2, "damping", f"< beta2 / initial_scale = {beta2 / scale:g}",
                damping)  # fmt: skip
        # Else L / beta2 - damping (L / beta2)^2 may be negative in a later one: it is at most
        # 1 / (4 damping), from where L / beta2 has to stay below 1 / damping.
        require(damping == 0 or beta2 > 0.25, "beta2", "> 0.25 with damping", beta2)
        require_number(options["ceiling"], "ceiling", 1)
        require_choice(options["t_rule"], "t_rule", T_RULES)
        require_count(options["norm_iterations"], "norm_iterations", 1)
        require_number(options["root_shift"], "root_shift")

    def _num_factors(self, options: dict[str, Any]) -> int:
        """How many factors enter the product A L with which a factor is renewed, at most."""
        return 1

    def _factor_ceiling(self, options: dict[str, Any]) -> float:
        """Bound on the eigenvalues of each factor; those that enter A L share `ceiling`."""
        return options["initial_scale"] * options["ceiling"] ** (1 / self._num_factors(options))

    def _root_damping(self, options: dict[str, Any]) -> float:
        return options["root_shift"]

    def _update_group(self, index: int, grads: dict[int, Tensor], norms: list[Tensor]) -> None:
        group, bounds = self.param_groups[index], self.state["shared"]["bounds"]
        if bounds[index] > MAX_EXCESS * self._factor_ceiling(group):
            self._cap_(index)
            bounds[index] /= group["beta2"]  # of this step, which is still to come
        super()._update_group(index, grads, norms)

    def _refresh_roots(self, index: int, work: Workspace, step: int) -> None:
        group, shared = self.param_groups[index], self.state["shared"]
        last = [self.state[group["params"][i]]["root_step"] for i in work.active]
        if not positions_due(group, work.active, last, step):
            return
        bound = shared["bounds"][index]
        if bound > self._factor_ceiling(group):
            self._cap_(index)
        super()._refresh_roots(index, work, step)
        num_mended, largest = _mend_(self._factors(index))
        shared["fallbacks"] += num_mended
        shared["bounds"][index] = min(bound, largest)

    def _factors(self, index: int) -> list[tuple[Tensor, Tensor]]:
        """All factors (N, n, n) of a group and their eigenvalues (N, n) as of the last root."""
        found = []
        for bucket in self._layout(index)[1]:
            state = self.state.get(f"{index}/{bucket.key}", {})
            modes = range(bucket.num_modes) if state else ()
            found += [(state[f"factor_{mode}"], state[f"eigenvalues_{mode}"]) for mode in modes]
        return found

    def _cap_(self, index: int) -> None:
        """Cut the eigenvalues of a group's factors at the ceiling; one host synchronisation."""
        ceiling = self._factor_ceiling(self.param_groups[index])
        factors = [factor for factor, _ in self._factors(index)]
        norms = [_norms(factor) for factor in factors]
        rows = iter((torch.cat(norms) > ceiling).tolist()) if norms else iter(())
        for factor in factors:
            high = [row for row in range(len(factor)) if next(rows)]
            if high:
                factor[high] = capped(factor[high], ceiling)
        # The norm of those not cut is below it.
        self.state["shared"]["bounds"][index] = ceiling

    def _new_bounds(self, bounds: list[float], norms: list[list[Tensor]]) -> list[float] | None:
        """Bounds on the factors' eigenvalues; None where products with them could overflow.

        Eigenvalues only fall, but for the division by beta2; with damping d, L / beta2 is cut to
        1 / (4 d) at most. One host synchronisation.
        """
        values = iter(torch.stack([norm for found in norms for norm in found]).tolist())
        new = []
        for group, bound, found in zip(self.param_groups, bounds, norms, strict=True):
            squares = [x * x for x in itertools.islice(values, len(found))]
            if squares:
                scale, damping = group["initial_scale"], group["damping"]
                bound = max(bound, scale) / group["beta2"]
                if damping != 0:
                    bound = min(bound, max(scale, 0.25 / damping) / group["beta2"])
                limit = torch.finfo(DTYPES[group["statistics_dtype"]]).max ** 0.5
                # max alone would hide NaN.
                finite = all(map(math.isfinite, squares))
                if not finite or not max(squares) * bound * self._others(group) < limit:
                    return None
            new.append(bound)
        return new

    def _others(self, options: dict[str, Any]) -> float:
        """Bound on the squared roots that enter A L together, of factors cut where they grow."""
        scale = options["initial_scale"]
        largest = self._factor_ceiling(options) if options["beta2"] < 1 else scale
        square = max(largest + options["root_shift"], 1.0)
        num_roots = self._num_factors(options) - 1
        # A product gives inf where a power would raise.
        return math.prod([square] * math.ceil(2 * self._exponent(1, options) * num_roots))


def _mend_(pairs: list[tuple[Tensor, Tensor]]) -> tuple[int, float]:
    """Cut the negative eigenvalues of indefinite factors in place.

    One host synchronisation where none has.

    Args:
        pairs: factors (N, n, n) and their eigenvalues (N, n) as of the last root, cut likewise.
    Returns:
        How many factors had such, and a bound on the eigenvalues of all.
    """
    masks = []
    for factor, eigenvalues in pairs:
        # What an exact factor may show: the backward error of its storage and decomposition.
        unit = torch.finfo(torch.promote_types(factor.dtype, torch.float32)).eps
        lowest = -eigenvalues.shape[1] * unit * eigenvalues[:, -1].abs()
        masks.append(eigenvalues[:, 0] < lowest)
    largest = torch.cat([_norms(factor) for factor, _ in pairs]).amax()
    num_mended, bound = torch.stack([torch.cat(masks).sum().to(largest.dtype), largest]).tolist()
    if num_mended:
        for (factor, eigenvalues), bad in zip(pairs, masks, strict=True):
            factor[bad] = power_by_eigh(factor[bad], 1.0).power
            eigenvalues[bad] = eigenvalues[bad].clamp(min=0)
    return int(num_mended), bound


def _norms(factors: Tensor) -> Tensor:
    """Frobenius norms of (N, n, n), float64, shape (N,): above the largest eigenvalues."""
    return torch.linalg.vector_norm(factors, dim=(-2, -1), dtype=torch.float64)
