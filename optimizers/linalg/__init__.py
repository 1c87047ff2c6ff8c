"""Kernels of linear algebra that know no optimizer."""

from optimizers.linalg.coupled_newton import power_by_coupled_newton
from optimizers.linalg.eigh import eigh, eigh_batched
from optimizers.linalg.geometric_mean import geometric_mean
from optimizers.linalg.newton_schulz import power_by_newton_schulz
from optimizers.linalg.norms import (
    frobenius_norm,
    product_spectral_norm,
    spectral_norm,
    spectral_norm_of,
    trace,
)
from optimizers.linalg.powers import Power, power_by_eigh, residual
from optimizers.linalg.warm_start import WarmPower, power_by_warm_start
from optimizers.linalg.window import LowRankWindow

__all__ = [
    "LowRankWindow",
    "Power",
    "WarmPower",
    "eigh",
    "eigh_batched",
    "frobenius_norm",
    "geometric_mean",
    "power_by_coupled_newton",
    "power_by_eigh",
    "power_by_newton_schulz",
    "power_by_warm_start",
    "product_spectral_norm",
    "residual",
    "spectral_norm",
    "spectral_norm_of",
    "trace",
]
