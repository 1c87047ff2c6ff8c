"""GGT section 3.1: Fig. 2's methods against the batch size [Agarwal et al. 2019]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import ggt_fig2_damping

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_fig2_batch",)
TITLE = "GGT paper, section 3.1: robustness to the batch size"
BATCHES = (1, 10, 100, 1000)


def table(records: Records) -> pd.DataFrame:
    """Return one row a problem, method and batch size, as `ggt_fig2_damping.table` does.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    places = [
        (problem, f"{problem}_{size}", method, float(size), method)
        for problem in ("logistic", "barrier")
        for method in ggt_fig2_damping.METHODS
        for size in BATCHES
    ]
    return ggt_fig2_damping.make_table(records.experiment(*EXPERIMENTS), places)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    panels = {"logistic": "logistic, labels sampled", "barrier": "barrier"}
    experiment = records.experiment(*EXPERIMENTS)
    return ggt_fig2_damping.make_figure(experiment, data, TITLE, "samples in a batch", panels)
