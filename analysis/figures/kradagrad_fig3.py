"""KrADagrad Fig. 3: test losses of three autoencoders [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison
from analysis.comparison import Panel

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

CASES = ("mnist", "curves", "faces")
EXPERIMENTS = tuple(f"kradagrad_fig3_{case}" for case in CASES)
TITLE = "KrADagrad paper, Fig. 3"
METHODS = ("sgd", "adam", "shampoo64_authors", "kradagrad_star_authors")
LABELS = {
    "sgd": "SGD, momentum",
    "adam": "AdamW",
    "shampoo64_authors": "Shampoo64",
    "kradagrad_star_authors": "KrADagrad*",
}


def panels(methods: tuple[str, ...]) -> tuple[Panel, ...]:
    """A panel an autoencoder. The bound that is subtracted is zero for the squared error."""
    return tuple(
        Panel(experiment, case, y="excess, test", methods=methods, title=title, ylabel=label)
        for experiment, case, title, label in zip(
            EXPERIMENTS,
            CASES,
            ("a: MNIST", "b: CURVES", "c: FACES"),
            ("cross-entropy − bound, test", "cross-entropy − bound, test", "squared error, test"),
            strict=True,
        )
    )


PANELS = panels(METHODS)


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
            "Authors' readings. Bound: the entropy of the pixels, which no output undercuts."
        ],
    )
