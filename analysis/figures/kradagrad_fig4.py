"""KrADagrad Fig. 4: continual learning by GEM (a) and La-MAML (b) [Mei et al. 2023].

The paper has the mean accuracy on all twenty tasks after each of them, minus SGD's, and minus
Adam's; here the accuracies themselves as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig4a", "kradagrad_fig4b")
TITLE = "KrADagrad paper, Fig. 4"
LABELS = {
    "shampoo_authors": "Shampoo",
    "kradagrad_star_authors": "KrADagrad*",
    "kradagrad_authors": "KrADagrad",
    "learned": "La-MAML's learned rates",
}
PANELS = tuple(
    Panel(experiment, case, y="accuracy, test", x="epoch", transform=transform, title=title)
    for experiment, case, name in (
        ("kradagrad_fig4a", "gem", "GEM"),
        ("kradagrad_fig4b", "lamaml", "La-MAML"),
    )
    for transform, title in (
        (("minus", "sgd"), f"{name}: minus SGD"),
        (("minus", "adam"), f"{name}: minus Adam"),
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
    said = [
        "Share of the test images of all twenty tasks that are classified rightly, those of tasks "
        "still to come too; an epoch is a task. Methods as the authors ran them."
    ]
    return comparison.draw(
        records, PANELS, data, title=TITLE, labels=LABELS, columns=3, sentences=said
    )
