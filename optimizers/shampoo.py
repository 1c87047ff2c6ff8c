"""Shampoo: a second-moment matrix for each mode of a tensor [Gupta, Koren and Singer 2018]."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from optimizers.base import DTYPES, dtype_name, require
from optimizers.buckets import Batch
from optimizers.kronecker import KroneckerOptimizer
from optimizers.linalg.kron import add_gram_


class Shampoo(KroneckerOptimizer):
    """Shampoo on blocks of merged shapes, with grafting and roots computed now and then.

    S_i <- S_i + G_(i) G_(i)^T                                     beta2 = 1
    S_i <- beta2 S_i + (1 - beta2) G_(i) G_(i)^T                   beta2 < 1
    P_i  = (S_i + damping I)^(-1/(2k))          for a block G with k modes
    U    = G x_1 P_1 x_2 P_2 ... x_k P_k
    m   <- momentum m + U
    x   <- (1 - lr weight_decay) x - lr m

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
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "momentum_rule": momentum_rule,
            "weight_decay": weight_decay,
            "weight_decay_rule": weight_decay_rule,
            "damping": damping,
            "floor": floor,
            "initial_scale": initial_scale,
            "beta2": beta2,
            "update_freq": update_freq,
            "start_step": start_step,
            "root_schedule": root_schedule,
            "exponent": exponent,
            "root_method": root_method,
            "block_size": block_size,
            "merge_dims": merge_dims,
            "graft": graft,
            "graft_eps": graft_eps,
            "graft_beta2": graft_beta2,
            "statistics_dtype": dtype_name(statistics_dtype, "statistics_dtype"),
            "root_dtype": dtype_name(root_dtype, "root_dtype", ("float32", "float64")),
            "apply_dtype": dtype_name(apply_dtype, "apply_dtype"),
        }
        super().__init__(params, defaults)

    def _check(self, options: dict[str, Any]) -> None:
        super()._check(options)
        method = options["root_method"]
        require(
            method in ("eigh", "coupled_newton"), "root_method", "eigh or coupled_newton", method
        )

    def _exponent(self, num_modes: int, options: dict[str, Any]) -> float:
        return -(options["exponent"] or 1 / (2 * num_modes))

    def _accumulate(self, batch: Batch, step: int, options: dict[str, Any]) -> None:
        beta2 = options["beta2"]
        weight = 1.0 if beta2 == 1 else 1 - beta2
        grads = batch.grads.to(DTYPES[options["statistics_dtype"]])
        for mode in range(batch.bucket.num_modes):
            add_gram_(batch.state[f"factor_{mode}"], grads, mode, beta2, weight)
