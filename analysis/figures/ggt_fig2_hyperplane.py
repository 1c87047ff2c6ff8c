"""Supplement to GGT Fig. 2: labels from a random hyperplane without noise, as the text prints.

These problems are separable: the infimum of the loss is 0 and is not attained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import ggt_fig2

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_fig2_hyperplane",)
TITLE = "Supplement to GGT paper, Fig. 2: separable labels"


def table(records: Records) -> pd.DataFrame:
    """Return the curves as `ggt_fig2.table` does.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return ggt_fig2.make_table(records.experiment(*EXPERIMENTS))


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    return ggt_fig2.make_figure(records.experiment(*EXPERIMENTS), data, TITLE)
