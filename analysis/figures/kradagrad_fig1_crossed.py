"""KrADagrad Fig. 1 with momentum and grafting crossed: what each contributes [Mei et al. 2023]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import comparison, dots

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from analysis.load import Records

EXPERIMENTS = ("kradagrad_fig1_crossed",)
TITLE = "KrADagrad paper, Fig. 1, momentum and grafting crossed"
CASE = "n128"
VARIANTS = {
    "plain": "neither",
    "momentum": "momentum .9",
    "graft": "gradient's norm",
    "both": "both",
}
ROWS = {
    "sgd": "SGD",
    "shampoo": "Shampoo, float32",
    "shampoo64": "Shampoo, float64",
    "kradagrad_star": "KrADagrad*",
    "kradagrad": "KrADagrad",
}
# Scaling to the gradient's norm leaves SGD as it is.
NAMES = {(row, variant): f"{row}_{variant}" for row in ROWS for variant in VARIANTS} | {
    ("sgd", "plain"): "sgd",
    ("sgd", "momentum"): "sgd_momentum",
}


def table(records: Records) -> pd.DataFrame:
    """Return the final losses: method, tuned, num_runs, num_diverged, value, low, high.

    Raises:
        MissingRecordsError: if the experiment is not finished.
    """
    return comparison.endpoints(records.experiment(*EXPERIMENTS), CASE, "loss")


def draw(records: Records, data: pd.DataFrame | None = None) -> Figure:
    """Draw the figure from `data`, by default `table(records)`."""
    data = table(records) if data is None else data
    return dots.draw(
        data,
        records.experiment(*EXPERIMENTS),
        title=TITLE,
        rows=ROWS,
        variants=VARIANTS,
        names=NAMES,
        xlabel="training loss over the last tenth of 250 steps",
        sentences=[
            f"Median over {data['num_runs'].max()} seeds with its 95 % bootstrap interval, and the "
            "best of eight rates on three other instances. n = 128, condition 1e10.",
            "Corrected readings, heavy ball, roots every 3 steps, Shampoo's damping 1e-4. "
            "Scaling an update to the gradient's norm leaves SGD as it is.",
        ],
    )
