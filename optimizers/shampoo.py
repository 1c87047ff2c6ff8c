"""Shampoo: a second-moment matrix for each mode of a tensor [Gupta, Koren and Singer 2018]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from optimizers.base import DTYPES, constructor_options
from optimizers.kronecker.base import KroneckerOptimizer
from optimizers.kronecker.buckets import Batch
from optimizers.linalg.kron import add_gram_, unfoldings


class Shampoo(KroneckerOptimizer):
    """Shampoo on blocks of merged shapes [Gupta et al. 2018, Algorithm 2; Anil et al. 2020].

        S_i <- S_i + G_(i) G_(i)^T                                     beta2 = 1
        S_i <- beta2 S_i + (1 - beta2) G_(i) G_(i)^T                   beta2 < 1, no bias correction
        P_i  = (S_i + damping I)^(-1/(2k))                             G a block with k modes
        U    = G x_1 P_1 x_2 P_2 ... x_k P_k
        u    = U |g| / |U|                                             g by `graft`, per parameter
        m   <- momentum m + u,   x <- (1 - lr weight_decay) x - lr m

    G_(i) is the mode-i unfolding. A vector has one mode: the full matrix of its block, to the power
    -1/2. Statistics are renewed in every step, the roots P_i in the first preconditioned step, then
    every `update_freq`.

    Departure from the paper: the damping is added when the root is taken and is no part of S_i: the
    same for beta2 = 1, and with beta2 < 1 it does not fade. Eigenvalues that round-off makes
    negative count as 0. Merging, blocks, grafting and roots now and then are from Anil et al.
    A gradient that is not finite, or too large to square, skips the step: a fallback; so is a root
    that fails, where the old one stays.

    Memory: a block of shape (n_1, ..., n_k) keeps sum_i n_i^2 numbers of `statistics_dtype`, as
    many of `apply_dtype` and sum_i n_i of `root_dtype`; a parameter of d values d for momentum and
    d for the adagrad and adam grafts, in the widest of these, the parameter's and float32.
    Beside the state, workspace of two to three times the gradient. A step costs
    O(d sum_i n_i), a step with roots O(sum_i n_i^3) a block more.

    Args:
        params: parameters or groups; all options may differ by group.
        lr: >= 0.
        momentum: in [0, 1).
        momentum_rule: heavy_ball; nesterov; in_place_nesterov, m <- mu^2 m + (1 + mu) u, which is
            what the code of KrADagrad's authors does.
        weight_decay: >= 0.
        weight_decay_rule: decoupled, or l2: added to u before momentum, not preconditioned.
        damping: added to the eigenvalues of S_i; > 0; units of squared gradient.
        floor: least eigenvalue after damping; >= 0; the damping is a floor already.
        initial_scale: S_i begins as this multiple of the identity; >= 0.
        beta2: in (0, 1].
        update_freq: steps from one computation of the roots to the next; >= 1.
        start_step: first preconditioned step, counted from 1; before it the graft's own step, or
            the gradient, is taken.
        start_rule: momentum before it: "same", or "aliased": step 2 mu u, what the code of
            KrADagrad's authors does (where weight decay enters once more).
        root_schedule: from_start, as above; multiples: at the steps that update_freq divides, and
            identities before.
        exponent: of P_i, as a positive number, in place of 1/(2k).
        root_method: "eigh"; "coupled_newton", where `floor` has no effect; or
            "coupled_newton_authors", where `floor` is a ridge, as a share of the largest
            eigenvalue, `damping` has no effect, and a root is taken as it comes.
        block_size: longest side of a block; >= 1.
        merge_dims: multiply neighbouring dimensions while the product is at most `block_size`.
        graft: none; sgd, the gradient's norm; adagrad; adam (betas (0, graft_beta2)).
        graft_eps: guards the division of the last two; >= 0.
        graft_beta2: in (0, 1).
        statistics_dtype: of S_i and of the products that it sums: float32, float64 or bfloat16, as
            dtype or name.
        root_dtype: in which roots are computed: float32 or float64.
        apply_dtype: of P_i and of its products with G: float32, float64 or bfloat16.
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
        damping: float = 1e-4,
        floor: float = 0.0,
        initial_scale: float = 0.0,
        beta2: float = 1.0,
        update_freq: int = 20,
        start_step: int = 1,
        start_rule: str = "same",
        root_schedule: str = "from_start",
        exponent: float | None = None,
        root_method: str = "eigh",
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

    def _exponent(self, num_modes: int, options: dict[str, Any]) -> float:
        return -(options["exponent"] or 1 / (2 * num_modes))

    def _accumulate(self, batch: Batch, step: int, options: dict[str, Any]) -> None:
        beta2 = options["beta2"]
        weight = 1.0 if beta2 == 1 else 1 - beta2
        grads = batch.grads.to(DTYPES[options["statistics_dtype"]])
        for mode, unfolded in enumerate(unfoldings(grads)):
            add_gram_(batch.state[f"factor_{mode}"], unfolded, beta2, weight)
