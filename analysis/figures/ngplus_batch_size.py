"""NG+ Tables 2 and 3, as curves: batches 1, 8 and 16 times as large [Yang et al. 2021]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ngplus_batch_size",)
TITLE = "NG+ paper, Tables 2 and 3: accumulated batches"
LABELS = {"ng_plus_x1": "batch 16", "ng_plus_x8": "batch 128", "ng_plus_x16": "batch 256"}
_OF = ("ngplus_batch_size", "mnist")
PANELS = (
    Panel(*_OF, y="accuracy, test", x="epoch", title="against epochs"),
    Panel(*_OF, y="accuracy, test", x="step", title="against iterations", log_x=True),
    Panel(*_OF, x="epoch", title="training loss"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves of all panels, tidy (`comparison.COLUMNS`).

    Raises:
        MissingRecordsError: if the experiment has no run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = ["Legend: images a batch. The paper: 256, 2,048 and 4,096, with rates .18, 1.3, 2.6."]
    return comparison.draw(
        records, PANELS, data, title=TITLE, labels=LABELS, ordered=True, sentences=said
    )
