"""NG+ Fig. 2: accuracy of ResNet-50 with SGD, LARS, K-FAC, NG+ and Adam [Yang et al. 2021].

The paper has accuracy on test and training images against seconds; here against epochs as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ngplus_fig2",)
TITLE = "NG+ paper, Fig. 2"
_OF = ("ngplus_fig2", "tiny_imagenet")
PANELS = (
    Panel(*_OF, y="accuracy, val", x="seconds", title="validation, against time"),
    Panel(*_OF, y="accuracy, train", x="seconds", title="training, against time"),
    Panel(*_OF, y="accuracy, val", x="epoch", title="validation"),
    Panel(*_OF, y="accuracy, train", x="epoch", title="training"),
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
        "The paper leaves Adam out. Evaluations: 500 images of each split; chance is .02.",
    ]
    return comparison.draw(records, PANELS, data, title=TITLE, sentences=said)
