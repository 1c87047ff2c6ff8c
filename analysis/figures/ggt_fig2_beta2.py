"""Supplement to GGT Fig. 2: the window's gain against its decay [Agarwal et al. 2019].

The paper does not give the decay beta2. Methods that forget nothing are drawn at every value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.figures import ggt_fig2_damping

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_fig2_beta2",)
TITLE = "Supplement to GGT paper, Fig. 2: the window's decay"
METHODS = ("diag", "diag_window", "full", "full_window")
# The decay in the methods' names, and the steps over which it forgets, 1 / (1 - beta2).
DECAYS = {".9": 10.0, ".99": 100.0, ".999": 1000.0}


def table(records: Records) -> pd.DataFrame:
    """Return one row a problem, method and decay, as `ggt_fig2_damping.table` does.

    setting: 1 / (1 - beta2), in steps.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    places = [
        (case, case, method, steps, f"{method}_{decay}" if "window" in method else method)
        for case in ("logistic", "barrier")
        for method in METHODS
        for decay, steps in DECAYS.items()
    ]
    return ggt_fig2_damping.make_table(records.experiment(*EXPERIMENTS), places)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    panels = {"logistic": "logistic, labels sampled", "barrier": "barrier"}
    experiment = records.experiment(*EXPERIMENTS)
    xlabel = "steps that the window remembers, 1 / (1 − β₂)"
    return ggt_fig2_damping.make_figure(experiment, data, TITLE, xlabel, panels, METHODS)
