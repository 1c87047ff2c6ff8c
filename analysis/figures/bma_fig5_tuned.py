"""Fig. 5 of the AdaGrad-BMA paper, small models, with rates half a decade apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel
from analysis.figures.bma_fig5 import LABELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("bma_fig5_tuned",)
TITLE = "AdaGrad-BMA paper, Fig. 5, small models, finer learning rates"
PANELS = (
    Panel("bma_fig5_tuned", "mnist", x="epoch", title="MNIST"),
    Panel("bma_fig5_tuned", "cifar10", x="epoch", title="CIFAR-10"),
    Panel("bma_fig5_tuned", "mnist", transform=("minus", "diag"), x="epoch", title="MNIST"),
    Panel("bma_fig5_tuned", "cifar10", transform=("minus", "diag"), x="epoch", title="CIFAR-10"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the training curves, and those minus AdaGrad-diag's (`comparison.COLUMNS`).

    Raises:
        MissingRecordsError: if the experiment has no run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    return comparison.draw(records, PANELS, data, title=TITLE, labels=LABELS)
