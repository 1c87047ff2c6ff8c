"""KrADagrad Fig. 1 with every rate tuned by equal trials, at two sizes [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1_tuned", "kradagrad_fig1_n384")
TITLE = "KrADagrad paper, Fig. 1 (rates tuned by equal trials)"
LABELS = {
    "sgd_momentum": "SGD, momentum",
    "shampoo64_authors": "Shampoo64",
    "shampoo_authors": "Shampoo32",
    "shampoo_newton_authors": "Shampoo32, Newton",
    "shampoo_eps_authors": "Shampoo32, eps 1e-4",
    "kradagrad_star_authors": "KrADagrad*",
    "kradagrad_authors": "KrADagrad",
}
METHODS = ("sgd", "adam", *LABELS)
PANELS = tuple(
    Panel(
        experiment, case, methods=[m for m in METHODS if m not in absent], transform=transform,
        log=True, smooth=0.004, title=title,
    )
    for experiment, case, name, absent in (
        (EXPERIMENTS[0], "n128", "n = 128", ("shampoo_newton_authors", "shampoo_eps_authors")),
        (EXPERIMENTS[1], "n384", "n = 384", ("sgd_momentum",)),
    )
    for transform, title in ((("ratio", "sgd"), f"{name}: over SGD's"), (None, f"{name}: absolute"))
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
        columns=2,
        sentences=[
            "Authors' readings: momentum .9 but for SGD and Adam, updates of Shampoo and "
            "KrADagrad* scaled to the gradient's norm, eps 1e-8 unless said; condition 1e10.",
            "Newton: roots by the authors' coupled iteration, with a ridge and kept though it "
            "has not converged.",
        ],
    )
