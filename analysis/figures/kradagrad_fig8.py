"""KrADagrad Fig. 8: the autoencoders with KrADagrad and Shampoo in float32 [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.figures import kradagrad_fig3

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = kradagrad_fig3.EXPERIMENTS
TITLE = "KrADagrad paper, Fig. 8"
METHODS = (
    "shampoo_authors", "shampoo64_authors", "kradagrad_star_authors", "kradagrad_authors",
    "kradagrad_star", "kradagrad",
)  # fmt: skip
LABELS = {
    "shampoo_authors": "Shampoo32",
    "shampoo64_authors": "Shampoo64",
    "kradagrad_star_authors": "KrADagrad*",
    "kradagrad_authors": "KrADagrad",
    "kradagrad_star": "KrADagrad*, corrected",
    "kradagrad": "KrADagrad, corrected",
}
PANELS = kradagrad_fig3.panels(METHODS)


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
            "Authors' readings but for the last two, which begin at L = I without scaling to the "
            "gradient's norm; the authors' KrADagrad computes roots for a tensor's first block "
            "alone. Bound: the entropy of the pixels, which no output undercuts.",
        ],
    )
