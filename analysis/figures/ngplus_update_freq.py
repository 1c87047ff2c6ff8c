"""NG+ section 2.1: how long curvature may be kept [Yang et al. 2021]; no figure of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ngplus_update_freq",)
TITLE = "NG+ paper, section 2.1: curvature kept for T steps"
LABELS = {
    "ng_plus_t1": "NG+, T = 1", "ng_plus_t10": "NG+, T = 10", "ng_plus_t100": "NG+, T = 100",
    "ng_plus_t500": "NG+, T = 500",
}  # fmt: skip
_OF = ("ngplus_update_freq", "mnist")
PANELS = (
    Panel(*_OF, title="against steps"),
    Panel(
        *_OF, transform=("minus", "ng_plus_t1"), title="difference to T = 1",
        methods=tuple(LABELS), ylabel="training loss − T = 1",
    ),
)  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the training curves, and those minus that of T = 1.

    Raises:
        MissingRecordsError: if the experiment has no run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = ["The paper: T = 500 of 200,000 steps, a share that would be T = 2 here."]
    return comparison.draw(records, PANELS, data, title=TITLE, labels=LABELS, sentences=said)
