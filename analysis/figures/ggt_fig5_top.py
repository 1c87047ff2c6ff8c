"""GGT Fig. 5 top: the spectrum of the gradient window of the CNN [Agarwal et al. 2019]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import ggt_fig5_bottom

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_fig3_top",)
TITLE = "GGT paper, Fig. 5 top"
PUBLISHED = {"paper": 1e3}


def table(records: Records) -> pd.DataFrame:
    """Return what is drawn, as `ggt_fig5_bottom.table` does.

    Raises:
        MissingRecordsError: if the experiment is not finished, or has no spectra of GGT.
    """
    return ggt_fig5_bottom.make_table(records.experiment(*EXPERIMENTS))


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    experiment = records.experiment(*EXPERIMENTS)
    surge = "The paper's figure surges near the end of training."
    return ggt_fig5_bottom.make_figure(experiment, data, TITLE, PUBLISHED, [surge])
