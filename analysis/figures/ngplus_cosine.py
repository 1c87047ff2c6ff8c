"""NG+ paper, appendix A: SGD with a cosine and with a rate that falls in steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ngplus_cosine",)
TITLE = "NG+ paper, appendix A: schedules of SGD"
LABELS = {"sgd_cosine": "cosine", "sgd_steps": "steps"}
_OF = ("ngplus_cosine", "tiny_imagenet")
PANELS = (
    Panel(*_OF, y="accuracy, val", x="epoch", title="validation"),
    Panel(*_OF, y="nll, val", x="epoch", hidden=0.25, title="validation"),
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
    said = [
        "Cosine: after a warm-up of one epoch; steps: a tenth of the rate after each third of the "
        "run. The paper: 75.9 % after 76 epochs and after nearly 90.",
    ]
    return comparison.draw(records, PANELS, data, title=TITLE, labels=LABELS, sentences=said)
