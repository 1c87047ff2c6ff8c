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
from optimizers.linalg.krad import T_RULES
from optimizers.linalg.powers import power_by_eigh


class InverseFactorOptimizer(KroneckerOptimizer):
    """Abstract base: factors L_i begin as a multiple of the identity and have positive roots.

    Where round-off or an underestimated norm has left a factor indefinite by more than round-off,
    its negative eigenvalues are set to 0 when its root is computed: a fallback. They would double
    with every large gradient otherwise.

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
        require_choice(options["t_rule"], "t_rule", T_RULES)
        require_count(options["norm_iterations"], "norm_iterations", 1)
        require_number(options["root_shift"], "root_shift")

    def _num_factors(self, options: dict[str, Any]) -> int:
        """How many factors enter the product A L with which a factor is renewed, at most."""
        return 1

    def _root_damping(self, options: dict[str, Any]) -> float:
        return options["root_shift"]

    def _refresh_roots(self, index: int, work: Workspace, step: int) -> None:
        super()._refresh_roots(index, work, step)
        group = self.param_groups[index]
        if all(self.state[group["params"][i]]["root_step"] != step for i in work.active):
            return
        states = [(self._bucket_state(index, b.bucket), b.bucket.num_modes) for b in work.batches]
        pairs = [
            (state[f"factor_{mode}"], state[f"eigenvalues_{mode}"])
            for state, num_modes in states
            for mode in range(num_modes)
        ]
        self.state["shared"]["fallbacks"] += _mend_(pairs)

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
                # prod gives inf where a power would raise; max alone would hide NaN.
                others = math.prod([max(bound, 1.0)] * (self._num_factors(group) - 1))
                finite = all(map(math.isfinite, squares))
                if not finite or not max(squares) * bound * others < limit:
                    return None
            new.append(bound)
        return new


def _mend_(pairs: list[tuple[Tensor, Tensor]]) -> int:
    """Cut the negative eigenvalues of indefinite factors in place; how many factors had such.

    One host synchronisation where none has.

    Args:
        pairs: factors (N, n, n) and their eigenvalues (N, n) as of the last root, cut likewise.
    """
    masks = []
    for factor, eigenvalues in pairs:
        # What an exact factor may show: the backward error of its storage and decomposition.
        unit = torch.finfo(torch.promote_types(factor.dtype, torch.float32)).eps
        lowest = -eigenvalues.shape[1] * unit * eigenvalues[:, -1].abs()
        masks.append(eigenvalues[:, 0] < lowest)
    if not bool(torch.cat(masks).any()):
        return 0
    for (factor, eigenvalues), bad in zip(pairs, masks, strict=True):
        factor[bad] = power_by_eigh(factor[bad], 1.0).power
        eigenvalues[bad] = eigenvalues[bad].clamp(min=0)
    return int(torch.cat(masks).sum())
