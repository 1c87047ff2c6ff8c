"""Optimizers with the `torch.optim` contract, and what adapts any of them to a model."""

from optimizers.adagrad_bma import AdagradBMA
from optimizers.adam_norm_grad import AdamNormGrad
from optimizers.build import build, describe_groups, numerics_versions
from optimizers.capture.record import RecordsSamples
from optimizers.full_adagrad import FullMatrixAdagrad
from optimizers.ggt import GGT
from optimizers.ggt_authors import GGTAuthors
from optimizers.ggt_hard_window import GGTHardWindow
from optimizers.kfac import KFAC
from optimizers.kradagrad import KrADagrad
from optimizers.kradagrad_star import KrADagradStar
from optimizers.lars import LARS
from optimizers.line_search import ExactLineSearchGD
from optimizers.newton import Newton
from optimizers.ng_plus import NGPlus
from optimizers.ng_plus_authors import NGPlusAuthors
from optimizers.ng_plus_authors_online import NGPlusAuthorsOnline
from optimizers.routing import Routed
from optimizers.shampoo import Shampoo
from optimizers.telemetry import ReportsSpectra, Spectrum, state_bytes

__all__ = [
    "GGT",
    "KFAC",
    "LARS",
    "AdagradBMA",
    "AdamNormGrad",
    "ExactLineSearchGD",
    "FullMatrixAdagrad",
    "GGTAuthors",
    "GGTHardWindow",
    "KrADagrad",
    "KrADagradStar",
    "NGPlus",
    "NGPlusAuthors",
    "NGPlusAuthorsOnline",
    "Newton",
    "RecordsSamples",
    "ReportsSpectra",
    "Routed",
    "Shampoo",
    "Spectrum",
    "build",
    "describe_groups",
    "numerics_versions",
    "state_bytes",
]
