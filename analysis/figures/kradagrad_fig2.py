"""KrADagrad Fig. 2: accuracy on CIFAR-10 and CIFAR-100 minus Adam's [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig2", "kradagrad_fig2_cifar100")
TITLE = "KrADagrad paper, Fig. 2"
LABELS = {
    "shampoo_authors": "Shampoo",
    "kradagrad_star_authors": "KrADagrad*",
    "kradagrad_authors": "KrADagrad",
}
PANELS = tuple(
    Panel(
        experiment,
        case,
        y="accuracy, test",
        x="epoch",
        transform=transform,
        title=title,
    )
    for experiment, case, name in (
        ("kradagrad_fig2", "cifar10", "CIFAR-10"),
        ("kradagrad_fig2_cifar100", "cifar100", "CIFAR-100"),
    )
    for transform, title in (
        (("minus", "adam"), f"{name}: minus Adam, as printed"),
        (None, f"{name}: absolute"),
    )
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
        sentences=["Authors' readings, without normalisation in the network; accuracy as a share."],
    )
