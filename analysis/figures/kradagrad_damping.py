"""KrADagrad section 4: damping of the statistic and the noise of the loss [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_damping",)
TITLE = "KrADagrad paper, section 4: damping"
DAMPINGS = {"d0": "0", "d1e4": "1e-4", "d1e2": "1e-2"}
NAMES = {"kradagrad_star": "KrADagrad*", "kradagrad": "KrADagrad"}
LABELS = {
    f"{method}_{key}": f"{name}, damping {value}"
    for method, name in NAMES.items()
    for key, value in DAMPINGS.items()
}
# One step of 250: smoothing would take away what is looked at.
PANELS = tuple(
    Panel(
        *EXPERIMENTS, "mnist", methods=[f"{method}_{key}" for key in DAMPINGS], smooth=0.004,
        title=name,
    )
    for method, name in NAMES.items()
)  # fmt: skip


def table(records: Records) -> pd.DataFrame:
    """Return the curves, tidy.

    Raises:
        MissingRecordsError: if nothing of it was run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    return comparison.draw(
        records,
        PANELS,
        data,
        title=TITLE,
        labels=LABELS,
        sentences=["One rate, .01, for all."],
    )
