"""Kernels of linear algebra that know no optimizer."""

from optimizers.linalg.eigh import eigh
from optimizers.linalg.window import LowRankWindow

__all__ = ["LowRankWindow", "eigh"]
