"""GGT Fig. 4 top: training loss and test accuracy against training time [Agarwal et al. 2019].

The runs of Fig. 3 top, with the rates chosen there, made again alone on one machine.
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
    said = "The rates that ggt_fig3_top chose; its runs made again, each alone on the machine."
    return comparison.draw(records, PANELS, data, title=TITLE, sentences=[said])
