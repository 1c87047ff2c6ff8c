"""KrADagrad Fig. 1: losses on an ill-conditioned quadratic, divided by SGD's [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1",)
TITLE = "KrADagrad paper, Fig. 1 (rates and readings of its notebook)"
# The names of the paper's legend, and two curves that it does not have.
LABELS = {
    "sgd": "SGD",
    "sgd_momentum": "SGD, momentum (added)",
    "adam": "Adam",
    "shampoo64_authors": "Shampoo64",
    "shampoo_authors": "Shampoo32",
    "shampoo_newton_authors": "Shampoo32, Newton (added)",
    "kradagrad_star_authors": "KrADagrad*",
    "kradagrad_authors": "KrADagrad",
}
PANELS = tuple(
    Panel(*EXPERIMENTS, case, transform=transform, log=True, smooth=0.004, title=title)
    for case, name in (("published", "notebook's A, B"), ("drawn", "new A, B for each seed"))
    for transform, title in ((("ratio", "sgd"), f"{name}: as printed"), (None, f"{name}: absolute"))
)


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
        columns=2,
        sentences=[
            "Momentum .9 for all but SGD and Adam, updates of Shampoo and KrADagrad* scaled to the "
            "gradient's norm, roots every 3 steps, eps 1e-8; n = 128, condition 1e10.",
            "Newton: roots by the authors' coupled iteration, with a ridge and kept though it "
            "has not converged.",
        ],
    )
