"""GGT section 3.3: word-level modelling, GGT in Adam's place [Agarwal et al. 2019]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_word_lm",)
TITLE = "GGT paper, section 3.3: words of PTB"
PANELS = (
    Panel(*EXPERIMENTS, "ptb", title="training loss"),
    Panel(*EXPERIMENTS, "ptb", y="perplexity, valid", title="validation perplexity", log=True),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves, tidy.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = "The paper says in words that GGT is ahead in the first 20 or so of its epochs only."
    return comparison.draw(records, PANELS, data, title=TITLE, sentences=[said])
