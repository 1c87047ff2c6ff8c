"""KrADagrad*: Shampoo with positive roots of inverse factors [Mei, Moreno and Walters 2023]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from optimizers.base import DTYPES, constructor_options, require_flag
from optimizers.kronecker.buckets import Batch
from optimizers.kronecker.inverse_factors import InverseFactorOptimizer
from optimizers.linalg.krad import age_, krad_
from optimizers.linalg.kron import unfoldings


class KrADagradStar(InverseFactorOptimizer):
    """KrADagrad* on blocks of merged shapes [Mei et al. 2023, Algorithm 1, corrected].

        L_i <- L_i / beta2,   L_i <- L_i - damping L_i L_i^T            [appendix C.4]
        A_i  = G_(i) G_(i)^T                        mode-i unfolding of a block G with k modes
        L_i <- L_i - L_i A_i L_i / t_i,   L_i = initial_scale I at first
        t_i  = 1 + ||A_i L_i||                                          [Proposition 3.2]
        P_i  = (L_i + root_shift I)^(1/(2k))
        U    = G x_1 P_1 x_2 P_2 ... x_k P_k
        m   <- momentum m + U
        x   <- (1 - lr weight_decay) x - lr m

    L_i is an inverse: it stays positive and never grows (beta2 = 1), and only positive roots are
    taken, which single precision bears. L^{-1} lies between I + sum A/t and I + sum A. The norm of
    `t_rule` decides how much is learnt of a gradient: trace_dim (released by the authors) barely
    adapts, spectral most. A mode takes two products a step where Shampoo has one, with the
    Frobenius norm three.

    Departure from the paper: Algorithm 1 prints (L, R) <- (R - dR, L - dL); each statistic takes
    its own increment here, unless `swap_factors`. Momentum is not printed, but needed and used.

    State: for each mode of each block two n_i x n_i matrices, of statistics_dtype and apply_dtype,
    and n_i eigenvalues of root_dtype; the momentum buffer, and one more for graft adagrad or adam,
    in the widest of the first two, float32 and the parameter's dtype. With the default dtypes 8 sum
    n_i^2 + 4 sum n_i + 4 d bytes, 8 d with such a graft. Not in the state: workspace of the size of
    two gradients, and of one more of each parameter of several blocks.

    Args:
        params: parameters or groups; all options may differ by group.
        lr: >= 0.
        momentum: in [0, 1).
        momentum_rule: "heavy_ball", "nesterov" or "in_place_nesterov" (the authors').
        weight_decay: >= 0.
        weight_decay_rule: "decoupled", or "l2": added to the update (the authors').
        damping: of the statistic, in [0, beta2 / initial_scale); 0 switches it off; units of
            squared gradient.
        floor: lower bound of a factor's eigenvalues in its root; >= 0.
        root_shift: added to them before; >= 0.
        initial_scale: > 0; 1 in the paper, 1/eps in the released code.
        beta2: in (0, 1], above 1/4 with damping. Without damping, a direction without gradient
            grows by 1/beta2 a step, and with eq. 13 any where 1 - A L / t is above beta2.
        ceiling: where that growth ends: eigenvalues of a factor are cut at initial_scale ceiling
            before its root is taken; >= 1, finite. Without effect for beta2 = 1.
        t_rule: "frobenius" (the paper), "spectral", "trace" or "trace_dim".
        norm_iterations: of the spectral norm's power iteration; >= 1.
        swap_factors: exchange the factors of square matrices in each step, as printed.
        update_freq: steps from one root to the next; >= 1.
        start_step: first preconditioned step, counted from 1; before it the graft's own step, or
            the gradient, is taken.
        start_rule: momentum before it: "same" or "aliased" (the authors' KrADagrad* and Shampoo).
        root_schedule: "from_start": at start_step and every update_freq from there; "multiples":
            when update_freq divides the step (the authors').
        exponent: of all factors; > 0; None for 1/(2k).
        ons: 1/k for 1/(2k), the "online Newton step" of the authors' code.
        root_method: "eigh"; "coupled_newton", where `floor` has no effect; or
            "coupled_newton_authors", where `floor` is a ridge, as a share of the largest
            eigenvalue, `damping` has no effect, and a root is taken as it comes.
        block_size: largest dimension of a block; >= 1.
        merge_dims: multiply consecutive dimensions while the product is at most block_size.
        graft: whose norm a tensor's update takes: "none", "sgd", "adagrad" or "adam".
        graft_eps: in the denominators of adagrad and adam; >= 0.
        graft_beta2: of adam; in (0, 1).
        statistics_dtype: of factors: float32, float64 or bfloat16, as dtype or name.
        root_dtype: in which roots are computed: float32 or float64.
        apply_dtype: of roots and their products with the gradient: as statistics_dtype.
    Raises:
        ValueError: on a value outside these ranges.
    """

    numerics_version = 1

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.9,
        momentum_rule: str = "heavy_ball",
        weight_decay: float = 0.0,
        weight_decay_rule: str = "decoupled",
        damping: float = 0.0,
        floor: float = 0.0,
        root_shift: float = 0.0,
        initial_scale: float = 1.0,
        beta2: float = 1.0,
        ceiling: float = 1e4,
        t_rule: str = "frobenius",
        norm_iterations: int = 2,
        swap_factors: bool = False,
        update_freq: int = 20,
        start_step: int = 1,
        start_rule: str = "same",
        root_schedule: str = "from_start",
        exponent: float | None = None,
        root_method: str = "eigh",
        ons: bool = False,
        block_size: int = 128,
        merge_dims: bool = True,
        graft: str = "none",
        graft_eps: float = 1e-8,
        graft_beta2: float = 0.999,
        statistics_dtype: torch.dtype | str = torch.float32,
        root_dtype: torch.dtype | str = torch.float32,
        apply_dtype: torch.dtype | str = torch.float32,
    ) -> None:
        super().__init__(params, constructor_options(locals()))

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        for name in ("swap_factors", "ons"):
            require_flag(options[name], name)

    def _exponent(self, num_modes: int, options: dict[str, Any]) -> float:
        return options["exponent"] or 1 / ((1 if options["ons"] else 2) * num_modes)

    def _accumulate(self, batch: Batch, step: int, options: dict[str, Any]) -> None:
        grads = batch.grads.to(DTYPES[options["statistics_dtype"]])
        for mode, columns in enumerate(unfoldings(grads)):
            factor = age_(batch.state[f"factor_{mode}"], options["beta2"], options["damping"])
            krad_(factor, columns, options["t_rule"], options["norm_iterations"])
        n = batch.bucket.shape
        if options["swap_factors"] and len(n) == 2 and n[0] == n[1]:
            state = batch.state
            state["factor_0"], state["factor_1"] = state["factor_1"], state["factor_0"]
