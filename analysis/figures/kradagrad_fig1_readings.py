"""KrADagrad Fig. 1 with corrected and printed readings, rates tuned [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1_tuned",)
TITLE = "KrADagrad paper, Fig. 1, corrected and printed readings (rates tuned by equal trials)"
LABELS = {
    "sgd_momentum": "SGD, momentum",
    "shampoo64": "Shampoo64",
    "shampoo": "Shampoo32",
    "kradagrad_star": "KrADagrad*",
    "kradagrad": "KrADagrad",
    "kradagrad_star_printed": "KrADagrad* (printed)",
    "kradagrad_printed": "KrADagrad (printed)",
}
METHODS = ("sgd", "adam", *LABELS)
PANELS = tuple(
    Panel(
        *EXPERIMENTS, "n128", methods=METHODS, transform=transform, log=True, smooth=0.004,
        title=title,
    )
    for transform, title in ((("ratio", "sgd"), "over SGD's"), (None, "absolute"))
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
        sentences=[
            "Corrected: momentum .9, no scaling to the gradient's norm. Printed: neither. "
            "Shampoo's damping 1e-4 in float32 and 1e-8 in float64; n = 128, condition 1e10.",
        ],
    )
