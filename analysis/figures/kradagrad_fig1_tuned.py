"""KrADagrad Fig. 1 with every rate tuned by equal trials, in all readings [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1_tuned",)
TITLE = "KrADagrad paper, Fig. 1 (rates tuned by equal trials)"
BASELINES = ("sgd", "sgd_momentum", "adam")
AUTHORS = (
    "shampoo_authors", "shampoo64_authors", "kradagrad_star_authors", "kradagrad_authors",
)  # fmt: skip
CORRECTED = ("shampoo", "shampoo64", "kradagrad_star", "kradagrad")
PRINTED = ("kradagrad_star_printed", "kradagrad_printed")
LABELS = {
    "sgd_momentum": "SGD, momentum",
    "shampoo_authors": "Shampoo32 (authors)",
    "shampoo64_authors": "Shampoo64 (authors)",
    "kradagrad_star_authors": "KrADagrad* (authors)",
    "kradagrad_authors": "KrADagrad (authors)",
    "shampoo": "Shampoo32",
    "kradagrad_star_printed": "KrADagrad* (printed)",
    "kradagrad_printed": "KrADagrad (printed)",
}


def _panel(methods: tuple[str, ...], transform: tuple[str, str] | None, title: str) -> Panel:
    return Panel(
        *EXPERIMENTS, "n128", methods=(*BASELINES, *methods), transform=transform, log=True,
        smooth=0.004, title=title,
    )  # fmt: skip


PANELS = (
    _panel(AUTHORS, ("ratio", "sgd"), "authors' code: as printed"),
    _panel(AUTHORS, None, "authors' code: absolute"),
    _panel((*CORRECTED, *PRINTED), ("ratio", "sgd"), "corrected and printed"),
    _panel((*CORRECTED, *PRINTED), None, "corrected and printed: absolute"),
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
        sentences=[
            "Authors: momentum .9, updates scaled to the gradient's norm (not KrADagrad's), eps "
            "1e-8. Corrected: momentum .9 without that scaling. Printed: without either.",
            "n = 128, condition 1e10.",
        ],
    )
