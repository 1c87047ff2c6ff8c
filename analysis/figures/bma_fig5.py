"""Fig. 5 of the AdaGrad-BMA paper: AdaGrad and its approximations in training [Lu et al. 2018]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("bma_fig5", "bma_fig5_large")
TITLE = "AdaGrad-BMA paper, Fig. 5"
LABELS = {"diag": "AdaGrad-diag", "full": "AdaGrad-full"}
PANELS = (
    Panel("bma_fig5", "mnist", x="epoch", title="MNIST, small model"),
    Panel("bma_fig5", "cifar10", x="epoch", title="CIFAR-10, small model"),
    Panel("bma_fig5_large", "mnist", x="epoch", title="MNIST, large model", smooth=0.1),
    Panel("bma_fig5_large", "cifar10", x="epoch", title="CIFAR-10, large model", smooth=0.1),
)


def table(records: Records) -> pd.DataFrame:
    """Return the training curves, tidy (`comparison.COLUMNS`).

    Raises:
        MissingRecordsError: if there is no run of either experiment.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = ["Learning rates: the best of the paper's five, 1 to 1e-4."]
    return comparison.draw(records, PANELS, data, title=TITLE, labels=LABELS, sentences=said)
