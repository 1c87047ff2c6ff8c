"""NG+ Fig. 3: SchNet's validation loss with SGD, Adam and NG+ [Yang et al. 2021].

Molecules above, crystals below, each against epochs and against seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("ngplus_fig3_qm9", "ngplus_fig3_matproj")
TITLE = "NG+ paper, Fig. 3"
LABELS = {"adam_scheduled": "Adam, NG+'s schedule"}
PANELS = tuple(
    Panel(
        experiment,
        case,
        y="loss, valid",
        x=x,
        log=True,
        title=f"{name}, against {'epochs' if x == 'epoch' else 'time'}",
        ylabel=f"validation loss ({unit})",
    )
    for experiment, case, name, unit in (
        ("ngplus_fig3_qm9", "qm9", "molecules", "eV²"),
        ("ngplus_fig3_matproj", "crystals", "crystals", "(eV/atom)²"),
    )
    for x in ("epoch", "seconds")
)


def table(records: Records) -> pd.DataFrame:
    """Return the curves of all panels, tidy (`comparison.COLUMNS`).

    Raises:
        MissingRecordsError: if nothing of it was run.
    """
    return comparison.table(records, PANELS)


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    said = ["Mean squared error of the energy of 300 structures that no method was tuned on."]
    return comparison.draw(
        records, PANELS, data, title=TITLE, labels=LABELS, columns=2, sentences=said
    )
