"""GGT section 3.3: an attention-based model, on which Adam is ahead [Agarwal et al. 2019]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_attention",)
TITLE = "GGT paper, section 3.3: attention"
PANELS = (
    Panel(*EXPERIMENTS, "ptb", title="training loss"),
    Panel(*EXPERIMENTS, "ptb", y="bits_per_char, valid", title="validation"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves, tidy.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = "The paper says in words that Adam is better than GGT on attention-based models."
    return comparison.draw(records, PANELS, data, title=TITLE, sentences=[said])
