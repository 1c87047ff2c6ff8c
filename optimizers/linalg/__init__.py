"""Kernels of linear algebra that know no optimizer."""

from optimizers.linalg.eigh import eigh, eigh_batched
from optimizers.linalg.powers import Power, power_by_eigh
from optimizers.linalg.window import LowRankWindow

__all__ = ["LowRankWindow", "Power", "eigh", "eigh_batched", "power_by_eigh"]
