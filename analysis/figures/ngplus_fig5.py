"""NG+ Fig. 5: DLRM on Criteo's log with SGD, AdaGrad, Adam and NG+ [Yang et al. 2021].

The paper has accuracy, which it calls CTR, on training and test days; log loss and AUC are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ngplus_fig5",)
TITLE = "NG+ paper, Fig. 5"
_OF = ("ngplus_fig5", "clicks")
PANELS = (
    Panel(*_OF, y="accuracy, train", hidden=0.2, title="training accuracy (“CTR”)"),
    Panel(*_OF, y="accuracy, test", hidden=0.2, title="test accuracy (“CTR”)"),
    Panel(*_OF, y="loss, test", ylim=(0.45, 0.6), title="test log loss", ylabel="log loss (nats)"),
    Panel(*_OF, y="auc, test", ylim=(0.5, None), title="test AUC", ylabel="AUC"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves of all panels, tidy (`comparison.COLUMNS`).

    Raises:
        MissingRecordsError: if the experiment has no run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = [
        "One epoch. The paper leaves Adam out. Test: 1,428 rows of the last day; an accuracy has a "
        "standard error of .011 there, while the paper's methods differ by .0003."
    ]
    return comparison.draw(records, PANELS, data, title=TITLE, sentences=said)
