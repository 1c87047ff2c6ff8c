"""AdaGrad-BMA with its root renewed every several steps, section 7 of the paper [Lu et al. 2018].

Left the training loss, right its difference to that of a root in every step; Table 4 has times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("bma_update_freq",)
TITLE = "AdaGrad-BMA paper, section 7: rarer roots"
LABELS = {
    "bma": "every step", "bma_every_10": "every 10 steps", "bma_every_100": "every 100 steps",
}  # fmt: skip
PANELS = (
    Panel("bma_update_freq", "mnist", x="epoch", title="MNIST, small model"),
    Panel("bma_update_freq", "mnist", transform=("minus", "bma"), x="epoch", title="difference"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the training curves, and those minus that of a root in every step.

    Raises:
        MissingRecordsError: if the experiment has no run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = ["The root of the block means is renewed at the intervals that the legend tells."]
    return comparison.draw(
        records, PANELS, data, title=TITLE, labels=LABELS, ordered=True, sentences=said
    )
