"""GGT section 3.2: fixed rates, RMSprop and Adadelta on CIFAR-10 [Agarwal et al. 2019].

The training loss under cosine annealing and under a fixed rate; each method's curves minus Adam's;
and what the schedules' ends are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ggt_cifar_text",)
TITLE = "GGT paper, section 3.2: schedules and diagonal methods"
(_NAME,) = EXPERIMENTS
DIAGONAL = ("rmsprop", "adadelta", "adam", "adagrad")
PANELS = (
    Panel(_NAME, "cosine", title="cosine annealing"),
    Panel(_NAME, "constant", title="fixed rate"),
    Panel(
        _NAME, "cosine", transform=("minus", "adam"), methods=DIAGONAL, title="minus Adam, cosine"
    ),
    Panel(_NAME, "cosine", y="accuracy, test", title="test accuracy, cosine"),
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves, tidy.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    return comparison.draw(records, PANELS, data, title=TITLE)
