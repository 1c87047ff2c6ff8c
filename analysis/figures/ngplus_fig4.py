"""NG+ Fig. 4: a Transformer with NG+ and Adam [Yang et al. 2021]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ngplus_fig4",)
TITLE = "NG+ paper, Fig. 4"
_OF = ("ngplus_fig4", "captions")
PANELS = (
    Panel(*_OF, x="epoch", title="training loss"),
    Panel(*_OF, y="loss, valid", x="epoch", title="validation loss"),
    Panel(*_OF, transform=("minus", "adam"), x="epoch", title="training loss − Adam's"),
    Panel(*_OF, y="bleu, valid", x="epoch", title="BLEU"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves of all panels, tidy (`comparison.COLUMNS`).

    Raises:
        MissingRecordsError: if the experiment has no run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = ["The paper: BLEU 34.79 ± .09 with NG+, 34.75 ± .08 with Adam, after whole training."]
    return comparison.draw(records, PANELS, data, title=TITLE, sentences=said)
