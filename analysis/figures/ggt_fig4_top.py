"""GGT Fig. 4 top: training loss and test accuracy against training time [Agarwal et al. 2019].

Runs as those of Fig. 3 top, made again alone on one machine, at given rates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_fig4_top",)
TITLE = "GGT paper, Fig. 4 top"
PANELS = (
    Panel(*EXPERIMENTS, "cifar10", x="seconds", title="training loss"),
    Panel(*EXPERIMENTS, "cifar10", y="accuracy, test", x="seconds", title="test accuracy"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves, tidy; seconds only of runs made alone on one machine.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = "Runs as ggt_fig3_top's, made again alone on the machine, at the rates of the YAML."
    return comparison.draw(records, PANELS, data, title=TITLE, sentences=[said])
